"""`freeze_` and the handle that it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freezekit.errors import FreezeError
from freezekit.freezing.apply import apply, check_parts, check_trainable, lock_of, undo
from freezekit.freezing.departures import Live, look, warning
from freezekit.freezing.eval_hold import RECORD, Record
from freezekit.freezing.forward_writes import write_warnings
from freezekit.freezing.parameter_groups import group_parameters
from freezekit.freezing.plan import with_warnings
from freezekit.freezing.planning import decide, view, warn
from freezekit.freezing.thawing import thaw_warnings
from freezekit.freezing.wrapped import check_model
from freezekit.plugins.registry import Registry, default_registry

if TYPE_CHECKING:
    import torch
    from torch import nn

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan
    from freezekit.model.loss import LossFunction
    from freezekit.spec.strategy import Strategy
    from freezekit.verify.records import Verification


class Frozen:
    """The handle of a frozen model. It reports, makes parameter groups, verifies and undoes.

    Attributes:
        plan: The plan in force, with the names of `eval_modules`.
        backbone: The read-only view of the model.
        lean: Whether autograd keeps only the tensors that gradients need.
    """

    def __init__(self, backbone: Backbone, plan: FreezePlan) -> None:
        self.backbone = backbone
        self.plan = plan
        self._record: Record = backbone.model.__dict__[RECORD]
        self.lean = self._record.lean is not None

    def __repr__(self) -> str:
        name = type(self.backbone.model).__name__
        live = self._look()
        if live is None:
            return f"Frozen({name}: no longer in force)"
        lean = "" if not self.lean else ", lean" if self._lean_acts() else ", lean without effect"
        return (
            f"Frozen({name}: {len(live.plan.frozen)} of "
            f"{len(live.backbone.parameters)} parameters frozen, "
            f"{len(live.plan.eval_modules or ())} modules held in eval{lean}"
            f"{', departed from its plan' if live.departures else ''})"
        )

    def report(self) -> str:
        """Return a table with one row per stage: trainable, frozen, held in eval, learning rate.

        The table tells what is true of the model now. Where that is no longer what the plan says, a
        warning under the table says so: flags that were changed, a new head, modules that were
        replaced. A handle that is no longer in force reports its plan, and says that first.

        Example:
            >>> from freezekit import freeze_, load_backbone
            >>> model = load_backbone("torchvision:resnet18", num_classes=10, device="meta")
            >>> print(freeze_(model, "head-only").report().splitlines()[0])
            ResNet: 5,130 of 11,181,642 parameters trained (0.0 %)
        """
        from freezekit.freezing.describe import describe  # it imports rich; freezing does not

        live = self._look()
        if live is None:
            return f"no longer in force; this was the plan:\n{describe(self.backbone, self.plan)}"
        text = describe(live.backbone, live.plan)
        if not self.lean:
            return text
        if self._lean_acts():
            return f"{text}\nlean: autograd keeps only what gradients need"
        return f"{text}\nlean: no effect, as torch.compile decides what autograd keeps"

    def param_groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """Return parameter groups for a torch optimizer. Each trainable parameter is in one group.

        Each group has "params", "lr" (`lr` times the plan's multiplier), "weight_decay" and "name".
        Some parameters get no weight decay, as in timm: norms, biases, other parameters of fewer
        than two dimensions, and those that the model's `no_weight_decay()` names.

        The groups hold what is trained now, also where the model has departed from its plan. New
        parameters have no multiplier.

        Args:
            lr: Learning rate of parameters without a multiplier.
            weight_decay: Weight decay of all other parameters.

        Raises:
            FreezeError: The model is no longer frozen by this handle, or nothing is trained.

        Warns:
            FreezekitWarning: The model has departed from its plan since `freeze_`: its flags were
                changed, parameters are new or gone, or modules are no longer held.

        Example:
            >>> import torch
            >>> from freezekit import freeze_, load_backbone
            >>> model = load_backbone("torchvision:resnet18", device="meta")
            >>> frozen = freeze_(model, "discriminative-lr:decay=0.5")
            >>> groups = frozen.param_groups(lr=0.1, weight_decay=0.01)
            >>> [(g["name"], g["lr"], g["weight_decay"]) for g in groups][-2:]
            [('lr x 1', 0.1, 0.01), ('lr x 1, no decay', 0.1, 0.0)]
            >>> optimizer = torch.optim.SGD(groups)
        """
        live = self._look()
        if live is None:
            raise self._not_in_force()
        if live.departures:
            warn([warning(live.departures)], stacklevel=3)
        groups = group_parameters(live.backbone, live.plan, lr, weight_decay)
        if not groups:
            raise FreezeError(
                f"no parameter of this {type(self.backbone.model).__name__} is trained now: its "
                "flags were changed after it was frozen; call freeze_() again"
            )
        return groups

    def verify(
        self,
        inputs: Any = None,  # Any: whatever the model takes
        *,
        steps: int = 3,
        loss: LossFunction | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> Verification:
        """Train a copy of the model for a few steps, and check each claim that a part is frozen.

        The model, its gradients and all random state stay as they are. Under a process group of
        several ranks, call it on every rank: the models are compared, as `verify_model` documents.

        Args:
            inputs: The input of the model's forward: a tensor such as images of shape (batch, 3,
                height, width), a tuple of arguments, or a dict of keyword arguments. None stands
                for random input of batch 2.
            steps: Number of training steps. Each starts with `model.train()`.
            loss: A function from the model's output to a scalar tensor. The default is the loss of
                `freezekit bench`.
            optimizer: The optimizer that will train the model. It is copied with its state. The
                default is SGD with momentum and weight decay over `param_groups`.

        Raises:
            FreezeError: The model is no longer frozen by this handle, the optimizer failed, or
                another rank did not call it within a minute.
            ModelError: The model refuses the input, is on "meta" or cannot be copied, or the loss
                has no gradient.

        Example:
            >>> import torch
            >>> from freezekit import freeze_, load_backbone
            >>> frozen = freeze_(load_backbone("torchvision:resnet18"), "first-n-stages:n=1")
            >>> frozen.verify(torch.rand(2, 3, 32, 32)).passed
            True
        """
        from freezekit.verify import verify_frozen

        self._check_in_force()
        return verify_frozen(
            self.backbone, self.plan, inputs, steps=steps, loss=loss, optimizer=optimizer
        )

    def undo(self) -> None:
        """Restore the flags and modes of before `freeze_`, and remove all that it added.

        Modules that were held take the mode that the last `train()` or `eval()` asked for. Values
        that training changed stay. Gradients that `freeze_` dropped do not come back.

        Raises:
            FreezeError: The model is no longer frozen by this handle.

        Example:
            >>> from freezekit import freeze_, load_backbone
            >>> model = load_backbone("torchvision:resnet18", device="meta")
            >>> freeze_(model, "head-only").undo()
            >>> all(p.requires_grad for p in model.parameters())
            True
        """
        with lock_of(self.backbone.model):
            self._check_in_force()
            undo(self.backbone.model)

    def _look(self) -> Live | None:
        """Return what is true of the model now; None where this handle is no longer in force."""
        with lock_of(self.backbone.model):
            return look(self.backbone, self.plan) if self._is_in_force() else None

    def _is_in_force(self) -> bool:
        return self.backbone.model.__dict__.get(RECORD) is self._record

    def _lean_acts(self) -> bool:
        """Tell whether lean acts; it does nothing in a model that is compiled as a whole."""
        model = self.backbone.model
        return model._compiled_call_impl is None and not hasattr(model, "_orig_mod")

    def _check_in_force(self) -> None:
        if not self._is_in_force():
            raise self._not_in_force()

    def _not_in_force(self) -> FreezeError:
        return FreezeError(
            f"this handle is no longer in force: {type(self.backbone.model).__name__} was "
            "undone or frozen again; use the handle that the last freeze_() returned"
        )


def freeze_(
    model: nn.Module,
    spec: str | Strategy | FreezePlan,
    *,
    lean: bool = False,
    thaw: bool = False,
    example_input: Any = None,  # Any: whatever the model takes
    registry: Registry | None = None,
) -> Frozen:
    """Freeze a model in place by a spec or a plan, and return its handle.

    Frozen parameters get `requires_grad=False` and lose their `.grad`. All others are trainable,
    but what arrives with `requires_grad=False` stays frozen unless `thaw` is true; a note in the
    report names it. On a model that is frozen already, what counts is how it arrived before the
    first `freeze_`.
    Modules in the plan's `eval_modules` are held in eval mode, through `model.train()`, deepcopy,
    pickle, wrappers and checkpoints. They keep their statistics through `reset_running_stats()` and
    `torch.optim.swa_utils.update_bn`. No module is replaced, and no state-dict key changes. A new
    plan replaces an earlier one: a frozen model is undone first. On an error the model stays as it
    was. Threads that freeze one model do so one after the other; the last handle is in force.

    Args:
        model: Any module.
        spec: Text such as "first-n-stages:n=2", a strategy, or a plan.
        lean: Keep between forward and backward only the tensors that gradients need. Kernels,
            losses and gradients stay the same to the last bit. docs/lean.md lists what is kept of
            each layer.
        thaw: Train all that the spec does not freeze, also what arrives frozen.
        example_input: As in `Backbone`. With it, two forwards of a copy in train mode tell whether
            the forward itself changes frozen parts, which is warned of. The copy is on "meta"; a
            model on the CPU that needs values is copied as it is. Without it this is not observed;
            `verify` trains a copy and finds it too.
        registry: The strategies that the text can name. The default is all installed plugins.

    Raises:
        SpecError, StagingError, PlanError, PluginError: As in `plan`.
        ModelError: The model is no module.
        FreezeError: A part of the model was frozen on its own, or a frozen model around this one
            holds a part of it. Or the model is wrapped for several processes already, or traced.

    Warns:
        FreezekitWarning: The plan probably does not do what the user meant. Or the model's own
            forward changes what is frozen (see `example_input`). Or the model was frozen
            and is thawed in part: optimizers and DistributedDataParallel that were made before do
            not know of it.

    Example:
        >>> from freezekit import freeze_, load_backbone
        >>> model = load_backbone("torchvision:resnet18", device="meta")
        >>> frozen = freeze_(model, "first-n-stages:n=2")
        >>> model.train().layer1.training, model.layer3.training
        (False, True)

        A strategy object does the same as its text:

        >>> from freezekit_strategies import FirstNStages
        >>> freeze_(model, FirstNStages(n=2)).plan == frozen.plan
        True

        With `lean`, the forward keeps less:

        >>> freeze_(model, "first-n-stages:n=3", lean=True).lean
        True
    """
    registry = registry or default_registry()
    check_model(model)
    with lock_of(model):
        check_parts(model)
        backbone = view(model, example_input, registry)
        decided = decide(backbone, spec, registry, thaw=thaw)
        check_trainable(model)
        decided = with_warnings(decided, write_warnings(backbone, decided))
        # Before any change, as warnings may be errors:
        warn((*decided.warnings, *thaw_warnings(model, decided)), stacklevel=3)
        if RECORD in model.__dict__:
            undo(model)
        apply(model, decided, lean=lean)
        return Frozen(backbone, decided)
