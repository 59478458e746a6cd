"""A validation: the outputs for all validation samples, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from freezekit.training.metrics import figures, packed, right

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from freezekit.plugins.metric import Metric
    from freezekit.training.trainer import Trainer


@dataclass(frozen=True)
class Evaluated:
    """What a validation found.

    Attributes:
        figures: By name; None where a figure is not finite.
        correct: One bit for each sample, as in `Trial.correct`.
        is_finite: Whether all outputs are finite.
        notes: A sentence for each metric that failed.
    """

    figures: dict[str, float | None]
    correct: str
    is_finite: bool
    notes: tuple[str, ...]


def evaluate(
    trainer: Trainer,
    batches: Iterable[tuple[Tensor, Tensor, bool]],
    metrics: Sequence[Metric],
) -> Evaluated:
    """Run the model, in eval mode, on all validation samples.

    Args:
        trainer: Its model is in eval mode, with averaged weights where there are any.
        batches: (inputs, labels, whether they are features).
        metrics: As `find_metrics` returns them.
    """
    outputs, numbers = [], []
    for inputs, labels, _ in batches:
        outputs.append(trainer.logits(inputs).cpu())
        numbers.append(labels)
    logits, labels = torch.cat(outputs), torch.cat(numbers)
    is_finite = bool(torch.isfinite(logits).all())
    found, notes = figures(metrics, logits, labels)
    return Evaluated(found, packed(right(logits, labels)), is_finite, notes)
