"""What is trained: the model with its optimizer, learning rates, schedule and averages."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from freezekit.bench.workload import OPTIMIZERS
from freezekit.data.preprocessing import preprocessing_of
from freezekit.data.random_draws import derived_seed
from freezekit.errors import FreezekitError, ModelError
from freezekit.handle.freeze import freeze_
from freezekit.model.loading import load_backbone
from freezekit.model.loss import AUXILIARY_WEIGHT, auxiliary_logits, pick_logits
from freezekit.model.out_of_memory import is_out_of_memory
from freezekit.training.averaging import AveragedWeights, trained_names

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping

    from freezekit.data.preprocessing import Preprocessing
    from freezekit.handle.frozen import Frozen
    from freezekit.plugins.registry import Registry
    from freezekit.schedules.followed import FollowedSchedule
    from freezekit.training.records import Recipe


class Trainer:
    """A model in training.

    Each step seeds the random state from the seed and the number of the step. So dropout does not
    depend on what was drawn before: a training that goes on from a checkpoint, or takes features of
    a cache, has the same bits.

    Args:
        recipe: How it goes.
        lr: The learning rate after warm-up.
        classes: Of the data.
        steps_per_epoch: Batches of an epoch.
        registry: Of strategies and schedules.

    Attributes:
        model: In train mode between `begin_epoch` and a validation.
        frozen: Its handle.
        preprocessing: How the model takes its images.
        averaged: The averaged weights; None without.
        trained: Parameters that were trained in any phase so far, and buffers that moved.
        step_number: Steps that are done.
    """

    def __init__(
        self, recipe: Recipe, lr: float, classes: int, steps_per_epoch: int, registry: Registry
    ) -> None:
        self.recipe = recipe
        self.device: torch.device = torch.device(recipe.device)
        self._steps_per_epoch = steps_per_epoch
        self.step_number: int = 0
        self._lr, self._classes = lr, classes
        torch.manual_seed(derived_seed("model", recipe.seed))
        self.model: torch.nn.Module = load_backbone(
            recipe.model,
            pretrained=recipe.pretrained,
            num_classes=classes,
            image_size=recipe.image_size,
            device=recipe.device,
        ).train()
        self.preprocessing: Preprocessing = preprocessing_of(
            self.model, recipe.model, recipe.image_size
        )
        self.frozen: Frozen = freeze_(
            self.model, recipe.strategy, lean=recipe.lean, registry=registry
        )
        # With a schedule, one optimizer holds all that any phase trains.
        groups = self.frozen.param_groups(
            lr, recipe.weight_decay, all_phases=recipe.schedule or False
        )
        self.optimizer: torch.optim.Optimizer = OPTIMIZERS[recipe.optimizer](groups, lr=lr)
        self.rates: LambdaLR = LambdaLR(self.optimizer, lambda step: self._share_of_rate(step))
        self.scaler: torch.amp.GradScaler = torch.amp.GradScaler(
            recipe.device, enabled=recipe.amp == "float16"
        )
        self.run: FollowedSchedule | None = None
        self.averaged: AveragedWeights | None = None
        self.trained: set[str] = set()

    def follow(self, sample: Tensor) -> None:
        """Put the first plan of the schedule in force; begin the averages.

        Args:
            sample: A few images as the model takes them, for schedules that observe outputs.
        """
        if self.recipe.schedule is not None:
            self.run = self.frozen.follow(
                self.recipe.schedule,
                self.optimizer,
                [self.rates],
                epochs=self.recipe.epochs,
                steps_per_epoch=self._steps_per_epoch,
                sample=sample.to(self.device),
            )
        self.model.train()
        if self.recipe.ema is not None:
            self.averaged = AveragedWeights(self.model, self.recipe.ema)
        self.trained |= set(trained_names(self.model))

    def step(self, inputs: Tensor, labels: Tensor) -> float:
        """Make one step of the optimizer, and return the loss; nothing is done if it is not finite.

        Args:
            inputs: Images, of shape (samples, channels, height, width), or features of a cache.
            labels: The numbers of the classes, of shape (samples,).
        """
        self.seed_step()
        loss = self.loss(inputs.to(self.device), labels.to(self.device))
        value = loss.item()
        if not math.isfinite(value):
            return value
        self.scaler.scale(loss).backward()
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler.get_scale() >= scale:  # else it skipped the step, for gradients of infinity
            self.rates.step()
        self.step_number += 1
        if self.averaged is not None:
            self.averaged.update()
        if self.run is not None and self.run.step() is not None:
            self._include_trained()
        return value

    def end_epoch(self, figures: Mapping[str, float | None]) -> None:
        """Tell the schedule that an epoch has ended, and what its validation found."""
        if self.run is not None:
            self.model.train()
            known = {name: value for name, value in figures.items() if value is not None}
            if self.run.epoch(known) is not None:
                self._include_trained()

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch: cross-entropy with label smoothing, with auxiliary logits."""
        with self.autocast():
            output = self._forward(inputs)
            smoothing = self.recipe.label_smoothing
            logits = self._checked(pick_logits(output)[0])
            loss = cross_entropy(logits, labels, label_smoothing=smoothing)
            for more in auxiliary_logits(output):
                extra = cross_entropy(more, labels, label_smoothing=smoothing)
                loss = loss + AUXILIARY_WEIGHT * extra
        return loss

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits of a batch in float32; the model is in eval mode.

        Raises:
            ModelError: They are not of shape (samples, classes).
        """
        with self.autocast():
            return self._checked(pick_logits(self._forward(inputs.to(self.device)))[0]).float()

    def autocast(self) -> contextlib.AbstractContextManager[Any]:  # Any: torch's own
        """Return the context of each forward."""
        kind = torch.bfloat16 if self.recipe.amp is None else getattr(torch, self.recipe.amp)
        return torch.autocast(self.recipe.device, dtype=kind, enabled=self.recipe.amp is not None)

    def seed_step(self) -> None:
        """Seed what the next step draws."""
        torch.manual_seed(derived_seed("step", self.recipe.seed, self.step_number))

    @property
    def lr(self) -> float:
        """The rate of the last step, of parameters without a multiplier."""
        return self._lr * self._share_of_rate(max(self.step_number - 1, 0))

    def state_dict(self) -> dict[str, Any]:  # Any: what torch.save holds
        """Return all that a resumed training needs, beside what is the same in a new process."""
        tensors = self.model.state_dict()
        buffers = {name for name, _ in self.model.named_buffers()}
        return {
            "step": self.step_number,
            "model": {n: t for n, t in tensors.items() if n in self.trained | buffers},
            "optimizer": self.optimizer.state_dict(),
            "rates": self.rates.state_dict(),
            "scaler": self.scaler.state_dict(),
            "run": None if self.run is None else self.run.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on from a state."""
        self.step_number = state["step"]
        self.trained |= set(state["model"])
        self.model.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        self.scaler.load_state_dict(state["scaler"])
        if self.run is not None:
            self.run.load_state_dict(state["run"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])

    def never_trained(self) -> dict[str, Tensor]:
        """Return the parameters that no phase has trained so far, by name."""
        return {n: p for n, p in self.model.named_parameters() if n not in self.trained}

    def _forward(self, inputs: Tensor) -> Any:  # Any: whatever the model returns
        try:
            return self.model(inputs)
        except FreezekitError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise ModelError(
                f"{self.recipe.model!r} does not take a batch of shape {tuple(inputs.shape)}: "
                f"{said:.200}; try another image size or batch size"
            ) from error

    def _checked(self, logits: Tensor) -> Tensor:
        if logits.ndim != 2 or logits.shape[1] != self._classes:
            raise ModelError(
                f"{self.recipe.model!r} gives an output of shape {tuple(logits.shape)}, expected "
                f"(batch, {self._classes}) for the classes of the images: build the model for "
                "num_classes, which a factory of your own is given"
            )
        return logits

    def _include_trained(self) -> None:
        self.trained |= set(trained_names(self.model))
        if self.averaged is not None:
            self.averaged.include_trained()

    def _share_of_rate(self, step: int) -> float:
        return share_of_rate(step, self._steps_per_epoch * self.recipe.epochs, self.recipe.warmup)


def share_of_rate(step: int, steps: int, warmup: float) -> float:
    """Return the share of the learning rate in a step: it rises, then falls as a cosine to 0.

    Args:
        step: From 0.
        steps: Of the whole training.
        warmup: The share of the steps in which it rises.

    Example:
        >>> [round(share_of_rate(step, 8, 0.25), 2) for step in range(8)]
        [0.5, 1.0, 1.0, 0.93, 0.75, 0.5, 0.25, 0.07]
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1))) / 2
