"""One training step of one strategy, ready to run: model, optimizer, synthetic input, loss."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from freezekit.backbone.staged import on_own_size_or
from freezekit.bench.phase_plan import Measured, PhasePlan, hold_state
from freezekit.errors import FreezekitError, ModelError
from freezekit.handle.freeze import freeze_
from freezekit.model.loading import load_backbone
from freezekit.model.loss import LossFunction, loss_function, loss_text
from freezekit.model.modes import in_mode
from freezekit.model.out_of_memory import is_out_of_memory
from freezekit.model.tasks import make_inputs, task_of
from freezekit.staging.input_shape import shape_taken

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.handle.frozen import Frozen
    from freezekit.plugins.registry import Registry
    from freezekit.results.lean_text import LeanChoice
    from freezekit.results.records import Workload

LEARNING_RATE = 1e-4  # small, so that the loss stays finite over all measured steps
WEIGHT_DECAY = 0.05

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda groups, **kw: torch.optim.SGD(groups, momentum=0.9, **kw),
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
}


class Session:
    """A training step that can be repeated: `loss`, or the whole `step`.

    Attributes:
        model: The frozen model, in train mode.
        run: What the forward pass calls: the model, or the model compiled.
        frozen: Its handle.
        optimizer: Over the trainable parameters, and in a phase over those of the phases before it.
        inputs: What the model's forward takes, such as images of shape (batch, channels, height,
            width).
        workload: What it was made from.
    """

    def __init__(
        self,
        workload: Workload,
        model: nn.Module,
        frozen: Frozen,
        optimizer: torch.optim.Optimizer,
        inputs: tuple[Any, ...],  # Any: whatever the model takes
        loss: LossFunction,
    ) -> None:
        self.workload = workload
        self.model = model
        self.run: Callable[..., Any] = model  # Any: whatever the model takes and returns
        self.frozen = frozen
        self.optimizer = optimizer
        self.inputs = inputs
        self._loss = loss

    def take(self, inputs: tuple[Any, ...]) -> None:  # Any: whatever the model takes
        """Take other inputs, perhaps more of them; labels are drawn anew."""
        self.inputs = inputs
        self._loss = loss_function(task_of(self.model), self.workload.loss)

    def loss(self) -> Tensor:
        """Run the forward pass and return the scalar loss.

        Raises:
            ModelError: The model does not take the input, or no loss can be made of its output.
        """
        with autocast(self.workload):
            loss = self._loss(forward(self.workload, self.run, self.inputs))
        if not loss.requires_grad:
            raise ModelError(
                f"the loss of {self.workload.model!r} does not depend on any parameter that is "
                "trained: no gradient can be taken. Outputs that the model detaches, and those "
                "that follow from frozen parts alone, have none; train a part that leads to an "
                "output, or give a loss of your own (--loss path/to/file.py:function)"
            )
        return loss

    def step(self) -> None:
        """Run one training step; gradients stay, the loss does not."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()


def build(
    workload: Workload,
    spec: Measured,
    registry: Registry | None = None,
    *,
    lean: LeanChoice = False,
) -> Session:
    """Load the model of a workload on its device and prepare a strategy's session.

    Args:
        workload: The training step.
        spec: The strategy, or the plan of a phase.
        registry: Where it is looked up; None for the default one.
        lean: As in `freeze_`.

    Raises:
        ModelError: The model cannot be built.
        FreezekitError: The strategy refuses the model.
    """
    torch.manual_seed(workload.seed)
    return prepare(workload, load(workload, workload.device), spec, registry, lean=lean)


def load(workload: Workload, device: str) -> nn.Module:
    """Build the model, told the image size where it has a fixed one, in the workload's dtype."""
    model = load_backbone(
        workload.model,
        pretrained=workload.pretrained,
        num_classes=workload.num_classes,
        image_size=workload.image_size,
        device=device,
    )
    if not any(True for _ in model.parameters()):
        raise ModelError(f"{workload.model!r} has no parameters: there is nothing to train")
    return model.to(getattr(torch, workload.dtype))


def load_on_shapes(workload: Workload) -> nn.Module:
    """Build the model on `meta`: it has shapes, and takes neither memory nor weights."""
    return load(msgspec.structs.replace(workload, pretrained=False), "meta")


def inputs_of(workload: Workload, model: nn.Module) -> tuple[Any, ...]:  # Any: what the model takes
    """Return a batch for the model: synthetic images of the workload's shape, and so on."""
    shape = with_shape(workload, model).input_shape
    assert shape is not None
    return make_inputs(model, shape)


def prepare(
    workload: Workload,
    model: nn.Module,
    spec: Measured,
    registry: Registry | None = None,
    *,
    lean: LeanChoice = False,
) -> Session:
    """Prepare a session on a model that exists already; it is frozen in place, lean as in `build`.

    Raises:
        FreezekitError: The strategy refuses the model.
    """
    workload = with_shape(workload, model)
    inputs = inputs_of(workload, model)
    plan = spec.plan if isinstance(spec, PhasePlan) else spec
    if workload.channels_last:
        model.to(memory_format=torch.channels_last)
        inputs = in_channels_last(inputs)
    model.train()
    frozen = on_own_size_or(
        inputs,
        lambda example: freeze_(model, plan, lean=lean, example_input=example, registry=registry),
    )
    optimizer = OPTIMIZERS[workload.optimizer](
        frozen.param_groups(LEARNING_RATE, WEIGHT_DECAY), lr=LEARNING_RATE
    )
    if isinstance(spec, PhasePlan):
        hold_state(model, optimizer, spec.trained_before)
    loss = loss_function(task_of(model), workload.loss)
    return Session(workload, model, frozen, optimizer, inputs, loss)


def in_channels_last(inputs: tuple[Any, ...]) -> tuple[Any, ...]:  # Any: whatever the model takes
    """Return the inputs with batches of images in channels-last layout."""

    def last(tensor: Tensor) -> Tensor:
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    return tree_map_only(Tensor, last, inputs)  # type: ignore[no-any-return]  # torch has no type


def describe_workload(workload: Workload) -> Workload:
    """Return the workload with its shape and loss filled in, the input tried on the model.

    Raises:
        ModelError: The model cannot be built, refuses the input, or no loss can be made of it.

    Example:
        >>> from freezekit.results.records import Workload
        >>> described = describe_workload(Workload("torchvision:resnet18", batch_size=2))
        >>> described.input_shape, described.loss_text
        ((2, 3, 224, 224), 'cross-entropy over 1000 classes of the output, shape (2, 1000)')
    """
    if workload.pretrained or workload.device == "cuda":  # shapes do not depend on either
        shapes_only = msgspec.structs.replace(workload, pretrained=False, device="cpu")
        described = describe_workload(shapes_only)
        return msgspec.structs.replace(
            described, pretrained=workload.pretrained, device=workload.device
        )
    try:
        return _tried(workload, load(workload, "meta"))
    except (FreezekitError, RuntimeError):  # it may run on real numbers, or say there what is wrong
        return _tried(workload, load(workload, "cpu"))


def _tried(workload: Workload, model: nn.Module) -> Workload:
    workload = with_shape(workload, model)
    inputs = inputs_of(workload, model)
    # With gradients, because the loss is made of an output that has one.
    with torch.enable_grad(), autocast(workload):
        output = forward(workload, in_mode(model, training=True), inputs)
    text = loss_text(output, task_of(model), workload.loss)
    return msgspec.structs.replace(workload, loss_text=text)


def with_shape(workload: Workload, model: nn.Module) -> Workload:
    """Return the workload with its image size and input shape filled in.

    Example:
        >>> from freezekit.results.records import Workload
        >>> model = load_backbone("timm:efficientnet_b1", device="meta")
        >>> with_shape(Workload("timm:efficientnet_b1", batch_size=2), model).input_shape
        (2, 3, 240, 240)
    """
    count = workload.batch_size
    if workload.input_shape is None:
        shape = shape_taken(model, workload.model, count, workload.image_size)
    else:  # known before, perhaps for another batch size
        shape = count, *workload.input_shape[1:]
    return msgspec.structs.replace(workload, image_size=shape[-1], input_shape=shape)


def forward(
    workload: Workload, run: Callable[..., Any], inputs: tuple[Any, ...]
) -> Any:  # Any: the model's own
    """Call the model, eager or compiled; where it refuses the input, the error says what to try.

    Raises:
        ModelError: The model raised.
    """
    try:
        return run(*inputs)
    except FreezekitError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        said = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise ModelError(
            f"{workload.model!r} does not take an input of shape {workload.input_shape}: "
            f"{said}{_advice(said)}"
        ) from error


def _advice(said: str) -> str:
    """Return what to try, as far as the model's own error shows it."""
    if "more than 1 value per channel" in said:
        return "; try a larger --batch-size"
    words = ("size", "height", "width", "shape", "divisible", "match")
    if any(word in said.lower() for word in words):
        return "; try another --image-size"
    return "; give the model an attribute example_input that says what its forward takes"


def autocast(workload: Workload) -> contextlib.AbstractContextManager[Any]:  # Any: torch's own
    """Return the context of a workload's forward: autocast, where it asks for that."""
    if workload.amp is None:
        return contextlib.nullcontext()
    return torch.autocast(workload.device, dtype=getattr(torch, workload.amp))
