"""A short training that follows a schedule, saved and resumed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch

from freezekit.freezing.plan import FreezePlan
from freezekit.handle.freeze import freeze_
from freezekit.testing.models import images
from freezekit.testing.simulated import EPOCHS, STEPS, reported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from freezekit.schedules.followed import FollowedSchedule
    from freezekit.spec.schedule import Schedule

LEARNING_RATE, WEIGHT_DECAY = 0.01, 0.05
ALL = EPOCHS * STEPS


class ShortTraining:
    """A training of `EPOCHS` epochs of `STEPS` steps.

    A step has two parts, `train` and `tell`: the optimizer's step, and the calls of the schedule
    after it.
    """

    def __init__(self, model: nn.Module, schedule: Schedule, metrics: Sequence[str]) -> None:
        self.model = model
        self._metrics = metrics
        frozen = freeze_(model, FreezePlan(), example_input=images())
        groups = frozen.param_groups(
            LEARNING_RATE, WEIGHT_DECAY, all_phases=schedule.plans() or True
        )
        self._optimizer = torch.optim.AdamW(groups)
        self.run: FollowedSchedule = frozen.follow(
            schedule, self._optimizer, epochs=EPOCHS, steps_per_epoch=STEPS, sample=images()
        )

    def train(self, step: int) -> None:
        """Make an optimizer step."""
        torch.manual_seed(step)  # dropout
        output = self.model.train()(images().roll(step, 3))
        logits = output[-1] if isinstance(output, tuple) else output
        self._optimizer.zero_grad()
        logits.square().mean().backward()
        self._optimizer.step()

    def tell(self, step: int) -> None:
        """Tell the schedule that a step was made, and that its epoch has ended if it has."""
        self.run.step()
        if (step + 1) % STEPS == 0:
            self.run.epoch(dict.fromkeys(self._metrics, reported((step + 1) // STEPS)))

    def saved(self) -> bytes:
        """Return a checkpoint."""
        file = io.BytesIO()
        parts = (self.model, self._optimizer, self.run)
        torch.save([part.state_dict() for part in parts], file)
        return file.getvalue()

    def load(self, saved: bytes) -> None:
        """Go on from a checkpoint."""
        states = torch.load(io.BytesIO(saved), weights_only=True)
        of_model, of_optimizer, of_run = states
        self.model.load_state_dict(of_model)
        self._optimizer.load_state_dict(of_optimizer)
        self.run.load_state_dict(of_run)

    def weights(self) -> dict[str, Tensor]:
        """Return copies of all parameters and buffers."""
        return {name: value.clone() for name, value in self.model.state_dict().items()}
