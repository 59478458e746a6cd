"""One training step of one strategy, ready to run: model, optimizer, synthetic input, loss."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor, nn

from freezekit.backbone.loading import default_image_size, import_source, load_backbone
from freezekit.errors import FreezekitError, ModelError, StagingError
from freezekit.freeze import Frozen, freeze_

if TYPE_CHECKING:
    from freezekit.bench.results import Workload
    from freezekit.registry import Registry
    from freezekit.strategy import FreezePlan

LEARNING_RATE = 1e-4  # small: what is measured must not depend on a loss that runs away
WEIGHT_DECAY = 0.05

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda groups, **kw: torch.optim.SGD(groups, momentum=0.9, **kw),
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
}

LossFunction = Callable[[Any], Tensor]  # Any: whatever the model returns

# The option by which a library's models of a fixed input size are told another one.
_SIZE_OPTION = {"timm": "img_size", "torchvision": "image_size"}


class Session:
    """A training step that can be repeated: `loss`, or the whole `step`.

    Attributes:
        model: The frozen model, in train mode.
        frozen: Its handle.
        optimizer: Over the trainable parameters.
        inputs: Images of shape (batch, channels, height, width).
        workload: What it was made from.
    """

    def __init__(
        self,
        workload: Workload,
        model: nn.Module,
        frozen: Frozen,
        optimizer: torch.optim.Optimizer,
        inputs: Tensor,
        loss: LossFunction,
    ) -> None:
        self.workload = workload
        self.model = model
        self.frozen = frozen
        self.optimizer = optimizer
        self.inputs = inputs
        self._loss = loss

    def loss(self) -> Tensor:
        """Run the forward pass and return the scalar loss.

        Raises:
            ModelError: The model does not take the input, or no loss can be made of its output.
        """
        with _autocast(self.workload):
            loss = self._loss(forward(self.workload, self.model, self.inputs))
        if not loss.requires_grad:
            raise ModelError(
                f"the loss of {self.workload.model!r} does not depend on any parameter that is "
                "trained: no gradient can be taken"
            )
        return loss

    def step(self) -> None:
        """Run one training step; gradients stay, the loss does not."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss().backward()
        self.optimizer.step()


def build(workload: Workload, spec: str, registry: Registry | None = None) -> Session:
    """Load the model of a workload on its device and prepare a strategy's session.

    Raises:
        ModelError: The model cannot be had.
        FreezekitError: The strategy refuses the model.
    """
    torch.manual_seed(workload.seed)
    return prepare(workload, load(workload, workload.device), spec, registry)


def load(workload: Workload, device: str) -> nn.Module:
    """Build the model, told the image size where it has a fixed one, in the workload's dtype."""
    wanted: dict[str, Any] = {
        "pretrained": workload.pretrained,
        "num_classes": workload.num_classes,
        "device": device,
    }
    option = _SIZE_OPTION.get(workload.model.partition(":")[0])
    model = None
    if workload.image_size and option:
        try:
            model = load_backbone(workload.model, **wanted | {option: workload.image_size})
        except ModelError as error:
            if not isinstance(error.__cause__, TypeError):  # most models take no such option
                raise
    if model is None:
        model = load_backbone(workload.model, **wanted)
    if not any(True for _ in model.parameters()):
        raise ModelError(f"{workload.model!r} has no parameters: there is nothing to train")
    return model.to(getattr(torch, workload.dtype))


def prepare(
    workload: Workload,
    model: nn.Module,
    spec: str | FreezePlan,
    registry: Registry | None = None,
) -> Session:
    """Prepare a session on a model that exists already; it is frozen in place.

    Raises:
        FreezekitError: The strategy refuses the model.
    """
    workload = with_shape(workload, model)
    assert workload.input_shape is not None
    parameter = next(model.parameters())
    inputs = torch.randn(workload.input_shape, dtype=parameter.dtype, device=parameter.device)
    if workload.channels_last:
        model.to(memory_format=torch.channels_last)
        inputs = inputs.to(memory_format=torch.channels_last)
    model.train()
    try:  # stages are found on the model's own image size, where resolutions tell most
        frozen = freeze_(model, spec, registry=registry)
    except StagingError:
        frozen = freeze_(model, spec, example_input=inputs, registry=registry)
    optimizer = OPTIMIZERS[workload.optimizer](
        frozen.param_groups(LEARNING_RATE, WEIGHT_DECAY), lr=LEARNING_RATE
    )
    return Session(workload, model, frozen, optimizer, inputs, _loss_function(workload))


def describe_workload(workload: Workload) -> Workload:
    """Return the workload with its shape and loss filled in, the input tried on the model.

    Raises:
        ModelError: The model cannot be had, does not take the input, or gives no loss.

    Example:
        >>> from freezekit.bench.results import Workload
        >>> described = describe_workload(Workload("torchvision:resnet18", batch_size=2))
        >>> described.input_shape, described.loss_text
        ((2, 3, 224, 224), 'cross-entropy over 1000 classes of the output, shape (2, 1000)')
    """
    if workload.pretrained or workload.device == "cuda":  # neither can be told from shapes
        shapes_only = dataclasses.replace(workload, pretrained=False, device="cpu")
        described = describe_workload(shapes_only)
        return dataclasses.replace(
            described, pretrained=workload.pretrained, device=workload.device
        )
    try:
        return _tried(workload, load(workload, "meta"))
    except (FreezekitError, RuntimeError):  # what fails on shapes alone may work on numbers
        return _tried(workload, load(workload, "cpu"))


def _tried(workload: Workload, model: nn.Module) -> Workload:
    workload = with_shape(workload, model)
    assert workload.input_shape is not None
    parameter = next(model.parameters())
    inputs = torch.zeros(workload.input_shape, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad(), _autocast(workload):
        output = forward(workload, model.train(), inputs)
    return dataclasses.replace(workload, loss_text=_loss_text(workload, output))


def with_shape(workload: Workload, model: nn.Module) -> Workload:
    """Return the workload with its image size and input shape filled in.

    Example:
        >>> from freezekit.bench.results import Workload
        >>> model = load_backbone("timm:efficientnet_b1", device="meta")
        >>> with_shape(Workload("timm:efficientnet_b1", batch_size=2), model).input_shape
        (2, 3, 240, 240)
    """
    size = workload.image_size or default_image_size(model, workload.model)
    return dataclasses.replace(
        workload, image_size=size, input_shape=(workload.batch_size, _channels(model), size, size)
    )


def _channels(model: nn.Module) -> int:
    """Return the channels of the images: timm's configuration knows, elsewhere three."""
    config = getattr(model, "pretrained_cfg", None) or {}
    size = config.get("input_size") if isinstance(config, Mapping) else None
    return int(size[0]) if size else 3


def forward(workload: Workload, model: nn.Module, inputs: Tensor) -> Any:  # Any: the model's own
    """Call the model; where it refuses the input, say so in the user's terms.

    Raises:
        ModelError: The model raised.
    """
    try:
        return model(inputs)
    except FreezekitError:
        raise
    except Exception as error:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate" in str(error):
            raise
        said = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise ModelError(
            f"{workload.model!r} does not take an input of shape {tuple(inputs.shape)}: "
            f"{said}{_advice(said)}"
        ) from error


def _advice(said: str) -> str:
    """Say what to try, where what the model said tells that much."""
    if "more than 1 value per channel" in said:
        return "; try a larger --batch-size"
    words = ("size", "height", "width", "shape", "divisible", "match")
    return "; try another --image-size" if any(word in said.lower() for word in words) else ""


def _loss_text(workload: Workload, output: Any) -> str:  # Any: whatever the model returns
    if workload.loss:
        _user_loss(workload.loss)(output)
        return workload.loss
    logits, where = pick_logits(output)
    return f"cross-entropy over {logits.shape[_class_dim(logits)]} classes of {where}"


def pick_logits(output: Any) -> tuple[Tensor, str]:  # Any: whatever the model returns
    """Find the logits in a model's output, and say in words where.

    A tensor is taken as it is; of a mapping or named tuple, its "logits" or "out"; of any other
    nest of tensors, the last of shape (batch, classes), else the last one.

    Raises:
        ModelError: There is no floating-point tensor of two or more dimensions.

    Example:
        >>> feature, logits, maps = torch.ones(2, 9), torch.ones(2, 4), [torch.ones(2, 3, 5, 5)]
        >>> picked, where = pick_logits((feature, logits, maps))
        >>> tuple(picked.shape), where
        ((2, 4), 'output 2 of 3, shape (2, 4)')
    """
    fields = output if isinstance(output, Mapping) else getattr(output, "_asdict", dict)()
    for key in ("logits", "out"):
        if isinstance(fields.get(key), Tensor):
            return fields[key], f"output {key!r}, shape {tuple(fields[key].shape)}"
    tensors = list(_tensors(output))
    usable = [i for i, t in enumerate(tensors) if t.is_floating_point() and t.ndim >= 2]
    if not usable:
        raise ModelError(
            f"no loss can be made from the model's output ({type(output).__name__}): it has no "
            "floating-point tensor of two or more dimensions; give --loss path/to/file.py:function"
        )
    chosen = next((i for i in reversed(usable) if tensors[i].ndim == 2), usable[-1])
    shape = tuple(tensors[chosen].shape)
    if len(tensors) == 1:
        return tensors[chosen], f"the output, shape {shape}"
    return tensors[chosen], f"output {chosen + 1} of {len(tensors)}, shape {shape}"


def _tensors(output: Any) -> Iterator[Tensor]:  # Any: whatever the model returns
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from (t for value in output.values() for t in _tensors(value))
    elif isinstance(output, (list, tuple)):
        yield from (t for value in output for t in _tensors(value))


def _class_dim(logits: Tensor) -> int:
    """Dense outputs (batch, classes, height, width) have classes second, all others last."""
    return 1 if logits.ndim == 4 else -1


def _loss_function(workload: Workload) -> LossFunction:
    if workload.loss:
        return _user_loss(workload.loss)
    labels: list[Tensor] = []

    def cross_entropy(output: Any) -> Tensor:  # Any: whatever the model returns
        logits = pick_logits(output)[0].movedim(_class_dim(pick_logits(output)[0]), -1)
        logits = logits.reshape(-1, logits.shape[-1])
        if not labels:
            labels.append(torch.randint(logits.shape[-1], logits.shape[:1], device=logits.device))
        return F.cross_entropy(logits, labels[0])

    return cross_entropy


def _user_loss(text: str) -> LossFunction:
    source, _, name = text.rpartition(":")
    function = getattr(import_source(text, source), name, None) if source else None
    if not callable(function):
        raise ModelError(f"--loss {text!r} is no function, expected 'path/to/file.py:function'")

    def loss(output: Any) -> Tensor:  # Any: whatever the model returns
        try:
            value = function(output)
        except FreezekitError:
            raise
        except Exception as error:
            raise ModelError(f"--loss {text!r} raised {type(error).__name__}: {error}") from error
        if not isinstance(value, Tensor) or value.ndim:
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
            returned = f"{type(value).__name__}{shape}"
            raise ModelError(f"--loss {text!r} returned {returned}, expected a scalar tensor")
        return value

    return loss


def _autocast(workload: Workload) -> contextlib.AbstractContextManager[Any]:  # Any: torch's own
    if workload.amp is None:
        return contextlib.nullcontext()
    return torch.autocast(workload.device, dtype=getattr(torch, workload.amp))
