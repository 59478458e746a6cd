"""How a scalar loss is made from the output of any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor

from freezekit.errors import FreezekitError, ModelError
from freezekit.model.nested import fields_of, tensors
from freezekit.model.sources import import_source

if TYPE_CHECKING:
    from freezekit.model.tasks import Task

AUXILIARY_WEIGHT = 0.4
"""Weight of auxiliary classifiers. GoogLeNet uses 0.3, Inception 0.4 and FCN 0.5."""

FLOW_DECAY = 0.8
"""Weight of each flow estimate relative to the next one, as RAFT's authors train it."""

LossFunction = Callable[[Any], Tensor]  # Any: whatever the model returns


def loss_text(output: Any, task: Task, user: str | None = None) -> str:  # Any: the model's own
    """Describe how the loss is made from this output.

    Args:
        output: What the model returned in train mode.
        task: The kind of input that the model took.
        user: The user's own loss, "path.py:function" or "module:function".

    Raises:
        ModelError: No loss can be made from the output.
    """
    if user:
        _user_loss(user)(output)
        return user
    if (losses := _own_losses(output)) is not None:
        return f"sum of the model's own losses: {', '.join(losses)}"
    if task == "flow":
        return f"mean absolute error of {len(_flows(output))} flow estimates"
    logits, where = pick_logits(output)
    text = f"cross-entropy over {logits.shape[_class_dim(logits)]} classes of {where}"
    auxiliary = len(auxiliary_logits(output))
    return text + (f" + {AUXILIARY_WEIGHT} x that of {auxiliary} auxiliary" if auxiliary else "")


def pick_logits(output: Any) -> tuple[Tensor, str]:  # Any: whatever the model returns
    """Return the logits in a model's output, and a description of where they are.

    A tensor is itself the logits. Of a mapping, named tuple or dataclass, "logits" or "out" is. Of
    any other nest of tensors, the last one of shape (batch, classes) is, or else the last one.

    Outputs that have a gradient come first, because a model may detach some, as SimSiam does.

    Raises:
        ModelError: There is no floating-point tensor of two or more dimensions.

    Example:
        >>> feature, logits, maps = torch.ones(2, 9), torch.ones(2, 4), [torch.ones(2, 3, 5, 5)]
        >>> picked, where = pick_logits((feature, logits, maps))
        >>> tuple(picked.shape), where
        ((2, 4), 'output 2 of 3, shape (2, 4)')
    """
    fields = fields_of(output)
    found = list(tensors(output))
    usable = [i for i, t in enumerate(found) if t.is_floating_point() and t.ndim >= 2]
    with_gradient = [i for i in usable if found[i].requires_grad]
    usable = with_gradient or usable
    for key in ("logits", "out"):
        named = fields.get(key)
        if isinstance(named, Tensor) and (named.requires_grad or not with_gradient):
            return named, f"output {key!r}, shape {tuple(named.shape)}"
    if not usable:
        raise ModelError(
            f"no loss can be made from the model's output ({type(output).__name__}): it has no "
            "floating-point tensor of two or more dimensions; give a loss of your own, from the "
            "output to a scalar (--loss path/to/file.py:function, or loss=)"
        )
    chosen = next((i for i in reversed(usable) if found[i].ndim == 2), usable[-1])
    shape = tuple(found[chosen].shape)
    if len(found) == 1:
        return found[chosen], f"the output, shape {shape}"
    return found[chosen], f"output {chosen + 1} of {len(found)}, shape {shape}"


def _class_dim(logits: Tensor) -> int:
    """Return the dimension of classes: 1 of (batch, classes, height, width), otherwise the last."""
    return 1 if logits.ndim == 4 else -1


def loss_function(task: Task, user: str | None = None) -> LossFunction:
    """Return a function from a model's output in train mode to a scalar.

    The loss is the first of these that applies:

    - the user's own;
    - the sum of the losses that the model returns, as detection models do;
    - for optical flow, the error against one random field;
    - cross-entropy on random labels, with auxiliary classifiers.

    Random labels are drawn once, at the first call.

    Args:
        task: The kind of input that the model takes.
        user: "path.py:function" or "module:function".

    Raises:
        ModelError: There is no such function; or, at a call, no loss can be made from the output.

    Example:
        >>> import torch
        >>> loss = loss_function("image")
        >>> logits = torch.zeros(2, 4, requires_grad=True)
        >>> bool(loss(logits) == loss(logits)), round(loss(logits).item(), 3)
        (True, 1.386)
    """
    if user:
        return _user_loss(user)
    drawn: list[Tensor] = []

    def draw(make: Callable[[], Tensor]) -> Tensor:
        if not drawn:
            drawn.append(make())
        return drawn[0]

    def flow_error(output: Any) -> Tensor:  # Any: whatever the model returns
        flows = _flows(output)
        target = draw(lambda: torch.randn_like(flows[-1]))
        weights = [FLOW_DECAY ** (len(flows) - 1 - i) for i in range(len(flows))]
        errors = [w * (flow - target).abs().mean() for w, flow in zip(weights, flows, strict=True)]
        return torch.stack(errors).sum()

    def cross_entropy(output: Any) -> Tensor:  # Any: whatever the model returns
        total = _entropy(pick_logits(output)[0], draw)
        for logits in auxiliary_logits(output):
            total = total + AUXILIARY_WEIGHT * _entropy(logits, draw)
        return total

    def loss(output: Any) -> Tensor:  # Any: whatever the model returns
        if (losses := _own_losses(output)) is not None:
            return torch.stack(list(losses.values())).sum()
        return flow_error(output) if task == "flow" else cross_entropy(output)

    return loss


def _entropy(logits: Tensor, draw: Callable[[Callable[[], Tensor]], Tensor]) -> Tensor:
    rows = logits.movedim(_class_dim(logits), -1).reshape(-1, logits.shape[_class_dim(logits)])
    labels = draw(lambda: torch.randint(rows.shape[-1], rows.shape[:1], device=rows.device))
    return F.cross_entropy(rows, labels)


def _own_losses(output: Any) -> Mapping[str, Tensor] | None:  # Any: whatever the model returns
    """Return the losses of a model that computes them itself, None for any other output."""
    scalar = isinstance(output, Mapping) and all(
        isinstance(value, Tensor) and value.ndim == 0 for value in output.values()
    )
    return output if scalar and output else None


def auxiliary_logits(output: Any) -> list[Tensor]:  # Any: whatever the model returns
    """Return the logits of auxiliary classifiers; torchvision names them "aux..."."""
    fields = fields_of(output).items()
    return [v for name, v in fields if name.startswith("aux") and isinstance(v, Tensor)]


def _flows(output: Any) -> list[Tensor]:  # Any: whatever the model returns
    flows = [t for t in tensors(output) if t.is_floating_point() and t.ndim == 4]
    if not flows:
        raise ModelError("no loss can be made: a model of optical flow returned no flow field")
    return flows


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
