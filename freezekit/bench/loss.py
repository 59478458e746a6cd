"""How a scalar loss is made of whatever a model returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor

from freezekit.backbone.loading import import_source
from freezekit.errors import FreezekitError, ModelError

if TYPE_CHECKING:
    from freezekit.bench.results import Workload

LossFunction = Callable[[Any], Tensor]  # Any: whatever the model returns


def loss_text(workload: Workload, output: Any) -> str:  # Any: whatever the model returns
    """Say in words how the loss is made from this output.

    Raises:
        ModelError: No loss can be made of it.
    """
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


def loss_function(workload: Workload) -> LossFunction:
    """Return the loss of a workload: the user's own, or cross-entropy on random labels."""
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
