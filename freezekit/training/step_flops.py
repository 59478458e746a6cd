"""FLOPs of the steps of a training, counted once for each plan, on two samples beside the training.

A count takes one forward and one backward. Nothing of the training changes: statistics, gradients
and random state are restored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from freezekit.bench.counting import count_step
from freezekit.budget import choosing_nothing
from freezekit.cache.untouched import in_training
from freezekit.errors import FreezekitError
from freezekit.model.flops import flop_counter
from freezekit.model.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor

    from freezekit.results.records import Flops
    from freezekit.training.trainer import Trainer

SAMPLES = 2
"""Those on which FLOPs are counted; a batch norm does not train on one."""


class StepFlops:
    """FLOPs of steps, forward and backward, by plan.

    Attributes:
        note: Why they cannot be counted; "" where they can.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._found: dict[tuple[object, bool], Flops | None] = {}
        self.note: str = ""

    def of_sample(self, inputs: Tensor, labels: Tensor, *, cached: bool) -> float:
        """Return the FLOPs of a step of the plan in force, for each sample; NaN if not known.

        Args:
            inputs: Of a batch.
            labels: Of the batch.
            cached: Whether the inputs are features of a cache.
        """
        found = self._step(inputs, labels, cached)
        if found is None:
            return math.nan
        again = 1 + self._trainer.frozen.recomputed_flops  # by a budget of memory
        return (found.forward + found.backward) * again / min(SAMPLES, len(inputs))

    def of_filling(self, rows: Tensor, labels: Tensor, images: Tensor) -> float:
        """Return the FLOPs of the prefix that a cache skips, for each sample; NaN if not known.

        Args:
            rows: Features.
            labels: Of the same samples.
            images: As many images, of any samples.
        """
        rest = self._step(rows, labels, True)
        if rest is None:
            return math.nan
        trainer, few = self._trainer, images[:SAMPLES].to(self._trainer.device)
        model, counter = trainer.model, flop_counter(trainer.model)
        with in_training(model), torch.no_grad(), choosing_nothing(), counter, trainer.autocast():
            model(few)
        whole: int = counter.get_total_flops()
        return (whole - rest.forward) / len(few)

    def _step(self, inputs: Tensor, labels: Tensor, cached: bool) -> Flops | None:
        trainer = self._trainer
        key = trainer.frozen.plan, cached
        if key not in self._found:
            few = inputs[:SAMPLES].to(trainer.device), labels[:SAMPLES].to(trainer.device)
            try:
                with in_training(trainer.model), choosing_nothing():
                    self._found[key], _ = count_step(trainer.model, lambda: trainer.loss(*few))
            except FreezekitError:
                raise  # a step would raise it too
            except Exception as error:  # a model may raise anything under a counter
                if is_out_of_memory(error):
                    raise
                self.note = f"FLOPs cannot be counted ({type(error).__name__}: {error!s:.100})"
                self._found[key] = None
        return self._found[key]
