"""Figures of a validation: accuracy, balanced accuracy, loss, and metrics of plugins and users."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import Tensor

from freezekit.errors import FreezekitError, TrainingError
from freezekit.model.sources import import_source
from freezekit.plugins.metric import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from freezekit.plugins.registry import Registry


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of samples whose class has the highest logit (top-1).

    Args:
        logits: Of shape (samples, classes).
        labels: The number of the class of each sample, of shape (samples,).

    Example:
        >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 1, 1]))
        0.6666666666666666
    """
    return float(right(logits, labels).double().mean())


def balanced_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean of the accuracies of the classes that have samples.

    Args:
        logits: Of shape (samples, classes).
        labels: The number of the class of each sample, of shape (samples,).

    Example:
        >>> logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
        >>> balanced_accuracy(logits, torch.tensor([0, 0, 1, 1]))
        0.75
    """
    found = right(logits, labels).double()
    return float(torch.stack([found[labels == label].mean() for label in labels.unique()]).mean())


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    """Return the mean cross-entropy in nats, without label smoothing.

    Args:
        logits: Of shape (samples, classes).
        labels: The number of the class of each sample, of shape (samples,).
    """
    return float(F.cross_entropy(logits.double(), labels))


BUILT_IN: tuple[Metric, ...] = (
    Metric("accuracy", accuracy),
    Metric("balanced_accuracy", balanced_accuracy),
    Metric("loss", cross_entropy, higher_is_better=False),
)


def right(logits: Tensor, labels: Tensor) -> Tensor:
    """Return whether each sample's class has the highest logit, the first one where several do."""
    return logits.argmax(1) == labels


def packed(correct: Tensor) -> str:
    """Return the bits of `Trial.correct`.

    Example:
        >>> packed(torch.tensor([True, False, True]))
        'oA=='
        >>> unpacked("oA==", 3)
        [True, False, True]
    """
    bits = "".join("1" if each else "0" for each in correct.tolist())
    count = math.ceil(len(bits) / 8)
    return base64.b64encode(int(bits.ljust(8 * count, "0"), 2).to_bytes(count)).decode()


def unpacked(text: str, samples: int) -> list[bool]:
    """Return whether each sample was right, from `Trial.correct`."""
    data = base64.b64decode(text)
    bits = bin(int.from_bytes(data))[2:].zfill(8 * len(data))
    return [bit == "1" for bit in bits[:samples]]


def find_metrics(texts: str | Sequence[str], registry: Registry) -> tuple[Metric, ...]:
    """Return the metrics of a training: the built-in ones, those of plugins, and the user's own.

    Args:
        texts: "path/to/file.py:function" or "package.module:function". The name of the metric is
            that of the function. Names of metrics that are there anyway are allowed. One text
            stands for itself.
        registry: Of the plugins.

    Raises:
        TrainingError: There is no such function, or its name is taken.

    Example:
        >>> from freezekit import load_registry
        >>> [metric.name for metric in find_metrics([], load_registry())]
        ['accuracy', 'balanced_accuracy', 'loss']
    """
    found = {metric.name: metric for metric in (*BUILT_IN, *registry.metrics.values())}
    for text in dict.fromkeys([texts] if isinstance(texts, str) else texts):
        if text in found:
            continue
        metric = _own(text)
        if metric.name in found:
            raise TrainingError(f"the metric {text!r} has the name of another one; rename it")
        found[metric.name] = metric
    return tuple(found.values())


def _own(text: str) -> Metric:
    source, separator, name = text.rpartition(":")
    expected = "expected 'path/to/file.py:function' or 'package.module:function'"
    if not separator or not source:
        known = ", ".join(metric.name for metric in BUILT_IN)
        raise TrainingError(f"the metric {text!r} is unknown; {expected}, or one of {known}")
    try:
        function = getattr(import_source(text, source, expected), name, None)
    except FreezekitError as error:
        raise TrainingError(f"the metric {error}") from error
    if isinstance(function, Metric):
        return function
    if not callable(function):
        raise TrainingError(f"the metric {text!r}: {source!r} has no function {name!r}")
    return Metric(name, function)


def figures(
    metrics: Iterable[Metric], logits: Tensor, labels: Tensor
) -> tuple[dict[str, float | None], tuple[str, ...]]:
    """Return the figures of a validation by name, and a sentence for each metric that failed.

    A metric that raises, or whose value is not finite, gives None: the training goes on.

    Args:
        metrics: As `find_metrics` returns them.
        logits: Of shape (samples, classes).
        labels: The number of the class of each sample, of shape (samples,).

    Example:
        >>> broken = Metric("broken", lambda logits, labels: 1 / 0)
        >>> figures([BUILT_IN[0], broken], torch.eye(2), torch.tensor([0, 1]))
        ({'accuracy': 1.0, 'broken': None}, ("the metric 'broken' raised ZeroDivisionError: ...",))
    """
    found: dict[str, float | None] = {}
    notes = []
    for metric in metrics:
        whose = f"the metric {metric.name!r}{f' of {metric.origin}' if metric.origin else ''}"
        try:
            value = float(metric.function(logits.clone(), labels.clone()))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's code raises anything
            said = " ".join(f"{type(error).__name__}: {error}".split())
            notes.append(f"{whose} raised {said:.150}; it has no value then")
            found[metric.name] = None
            continue
        found[metric.name] = value if math.isfinite(value) else None
        if found[metric.name] is None and metric not in BUILT_IN:
            notes.append(f"{whose} returned {value}; it has no value then")
    return found, tuple(notes)
