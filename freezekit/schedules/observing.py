"""What a schedule asks to see of a training: gradients, weights and outputs of stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from freezekit.errors import ScheduleError
from freezekit.model.copies import eagerly
from freezekit.model.nested import tensors
from freezekit.model.random_state import RandomState, cuda_devices
from freezekit.schedules.agreement import mean_over_ranks
from freezekit.schedules.optimizers import hooked
from freezekit.schedules.rates import multiplier
from freezekit.spec.progress import Observed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch.distributed import ProcessGroup
    from torch.optim import Optimizer

    from freezekit.backbone.view import Backbone
    from freezekit.spec.progress import Observation

STEPS = frozenset({"gradients", "weights"})
"""What is seen while the optimizer makes a step."""
NORMS = "gradient_norms", "weight_norms", "update_norms"


class Observer:
    """Sees what a schedule asks for, in hooks of the optimizer's step.

    Attributes:
        is_due: Whether the next optimizer step is observed.
        observed: What was seen last.
    """

    def __init__(
        self,
        backbone: Backbone,
        optimizer: Optimizer,
        wants: frozenset[Observation],
        sample: Any,  # Any: whatever the model takes
        group: ProcessGroup | None,
    ) -> None:
        self.is_due: bool = False
        self.observed: Observed = Observed()
        self.sample: Any = sample  # Any: whatever the model takes
        self._similarities: dict[str, Tensor] = {}
        self._backbone = backbone
        self._optimizer = optimizer
        self._wants = wants
        self._group = group
        self._before: dict[str, list[Tensor]] = {}
        if STEPS & wants and hooked(optimizer) is None:
            raise ScheduleError(
                f"the schedule observes gradients in the step of the optimizer, and the step of "
                f"{type(optimizer).__name__} runs no hooks; use an optimizer of torch.optim"
            )
        if "outputs" in wants and sample is None:
            raise ScheduleError(
                "the schedule observes the outputs of stages for a fixed batch: give a few images, "
                "as in follow(..., sample=next(iter(loader))[0][:8])"
            )
        self._stages: dict[str, tuple[str, ...]] = {}
        if wants - {"metrics", "rate"}:  # a schedule of plans by name needs no stages
            self._stages = {stage.name: stage.parameters for stage in backbone.stages}

    def before_step(
        self, _: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:  # Any: the protocol of torch's hooks
        """Take the gradients that the optimizer is about to use: its pre-hook.

        Where the step is given a closure, as trainers do, its backward makes them first.
        """
        if not self.is_due or not STEPS & self._wants:
            return None
        optimizer, *rest = args
        closure = kwargs.get("closure", rest[0] if rest else None)
        if closure is None:
            self._take()
            return None

        def observed() -> object:
            loss: object = closure()
            self._take()
            return loss

        return (optimizer,), {**kwargs, "closure": observed}

    def _take(self) -> None:
        trained = self._trained()
        if "weights" in self._wants:
            self._before = {n: [p.detach().clone() for p in ps] for n, ps in trained.items()}
        scale = _scale(self._optimizer)
        norms = {
            name: _norm([p.grad for p in parameters if p.grad is not None]) / scale
            for name, parameters in trained.items()
        }
        self.observed = Observed(gradient_norms=norms)

    def after_step(self, *_: object) -> None:
        """Take the weights that the optimizer has made: its post-hook."""
        if not self.is_due or not STEPS & self._wants:
            return
        self.is_due = False
        trained = self._trained()
        updates = {
            name: _norm([p.detach() - b for p, b in zip(trained[name], before, strict=True)])
            for name, before in self._before.items()
        }
        self._before = {}
        self.observed = Observed(
            gradient_norms=self.observed.gradient_norms,
            weight_norms={name: _norm(parameters) for name, parameters in trained.items()},
            update_norms=updates,
        )

    def look(self) -> Observed:
        """Return what was seen in the last optimizer step, with rate and outputs of now."""
        seen = self.observed
        self.observed = Observed()
        rate, changes = None, {}
        if "rate" in self._wants:
            rate = max(float(g["lr"]) / multiplier(g) for g in self._optimizer.param_groups)
        if "outputs" in self._wants:
            changes = mean_over_ranks(self._output_changes(), self._group)
        return Observed(seen.gradient_norms, seen.weight_norms, seen.update_norms, changes, rate)

    def state_dict(self) -> dict[str, Any]:  # Any: numbers and tensors
        """Return what has been seen and not been used, and what outputs are compared with."""
        return {
            "observed": {name: dict(getattr(self.observed, name)) for name in NORMS},
            "similarities": {name: t.clone() for name, t in self._similarities.items()},
            "sample": self.sample if "outputs" in self._wants else None,
        }

    def read(self, state: Mapping[str, Any]) -> tuple[Observed, dict[str, Tensor], Any]:
        """Return what `state_dict` holds.

        Raises:
            ScheduleError: It holds something else.
        """
        try:
            gradients, weights, updates = (dict(state["observed"][name]) for name in NORMS)
            observed = Observed(gradients, weights, updates)
            return observed, dict(state["similarities"]), state["sample"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ScheduleError(
                f"the state is damaged: what was observed in it cannot be read ({error!r}); take "
                "another checkpoint"
            ) from error

    def go_on(self, saved: tuple[Observed, dict[str, Tensor], Any]) -> None:  # Any: as above
        """Go on from what `read` returned."""
        self.observed, self._similarities, sample = saved
        if sample is not None:
            self.sample = sample

    def _trained(self) -> dict[str, list[nn.Parameter]]:
        parameters = dict(self._backbone.model.named_parameters())
        trained = {
            stage: [parameters[name] for name in names if parameters[name].requires_grad]
            for stage, names in self._stages.items()
        }
        return {stage: of_stage for stage, of_stage in trained.items() if of_stage}

    def _output_changes(self) -> dict[str, float]:
        """Return how much the similarities of the samples have changed; {} the first time."""
        now = _similarities(self._backbone, self.sample)
        before, self._similarities = self._similarities, now
        return {
            name: float((matrix - before[name].to(matrix)).square().mean())
            for name, matrix in now.items()
            if name in before
        }


def _norm(items: Sequence[Tensor]) -> float:
    """Return the L2 norm over tensors of any number and dtype; sharded ones are gathered."""
    squares = [_whole(torch.linalg.vector_norm(t.detach(), dtype=torch.float32)) for t in items]
    return float(torch.linalg.vector_norm(torch.stack(squares))) if squares else 0.0


def _whole(tensor: Tensor) -> Tensor:
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def _scale(optimizer: Optimizer) -> float:
    """Return by what gradients are multiplied that a fused optimizer divides itself under AMP."""
    scale = getattr(optimizer, "grad_scale", None)
    return 1.0 if scale is None else float(scale)


def _similarities(backbone: Backbone, sample: Any) -> dict[str, Tensor]:  # Any: model inputs
    """Return for each stage the similarity of each pair of samples, of shape (batch, batch).

    The model runs once in eval mode, without gradients, and draws no number of the training's.
    """
    outputs: dict[str, Tensor] = {}
    modules = dict(backbone.model.named_modules())
    handles = []
    for stage in backbone.stages:
        for name in _outermost(stage.modules):

            def keep(
                _: nn.Module, __: Any, output: Any, stage: str = stage.name
            ) -> None:  # Any: as above
                found = [t for t in tensors(output) if t.is_floating_point() and t.ndim > 1]
                if found:
                    outputs[stage] = found[-1]  # the last call of a stage gives its output

            handles.append(modules[name].register_forward_hook(keep))
    modes = [(module, module.training) for module in modules.values()]
    args = sample if isinstance(sample, tuple) else () if isinstance(sample, dict) else (sample,)
    kwargs = sample if isinstance(sample, dict) else {}
    state = RandomState.now(cuda_devices(backbone.model))
    try:
        for module in modules.values():
            module.training = False
        with torch.no_grad(), eagerly(backbone.model):
            copied = tree_map_only(Tensor, Tensor.clone, (args, kwargs))
            backbone.model(*copied[0], **copied[1])
    finally:
        for module, training in modes:
            module.training = training
        for handle in handles:
            handle.remove()
        state.restore()
    return {name: _similarity(output) for name, output in outputs.items()}


def _similarity(output: Tensor) -> Tensor:
    """Return the normalised products of samples: the similarity of Tung and Mori (1907.09682)."""
    flat = output.detach().float().flatten(1)
    return nn.functional.normalize(flat @ flat.T, dim=1).cpu()


def _outermost(names: Iterable[str]) -> list[str]:
    listed = set(names)
    return [
        name
        for name in names
        if not any(name[:i] in listed for i, letter in enumerate(name) if letter == ".")
    ]
