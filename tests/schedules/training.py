"""A small training that follows a schedule, stopped and resumed at any step."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import timm.optim
import torch
from torch import Tensor, nn
from torch.nn import functional

from freezekit import Backbone, Stage, freeze_

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from freezekit.handle.frozen import Frozen
    from freezekit.schedules.followed import FollowedSchedule

CLASSES = 5
PER_EPOCH = 4


class Net(nn.Module):
    """Four blocks with batch norm, and a head with dropout."""

    def __init__(self) -> None:
        super().__init__()

        def block(inside: int, out: int) -> nn.Sequential:
            conv = nn.Conv2d(inside, out, 3, 2, 1, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())

        self.stem, self.s1, self.s2, self.s3 = (
            block(a, b) for a, b in ((3, 8), (8, 8), (8, 16), (16, 16))
        )
        self.pool, self.drop, self.fc = (
            nn.AdaptiveAvgPool2d(1),
            nn.Dropout(0.2),
            nn.Linear(16, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.s3(self.s2(self.s1(self.stem(x))))
        return self.fc(self.drop(self.pool(x).flatten(1)))


def batch(step: int, rank: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1000 * rank + step)
    images = torch.randn(8, 3, 16, 16, generator=source)
    return images, torch.randint(0, CLASSES, (8,), generator=source)


OPTIMIZERS: Mapping[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "adamw": torch.optim.AdamW,
    "adamw-fused": lambda groups: torch.optim.AdamW(groups, fused=True),
    "nadam": torch.optim.NAdam,
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, momentum=0.9),
    "adagrad": torch.optim.Adagrad,
    "radam": torch.optim.RAdam,
    "lamb": timm.optim.Lamb,
    "lookahead": lambda groups: timm.optim.Lookahead(torch.optim.SGD(groups, momentum=0.9), k=3),
}


@dataclass
class Trained:
    """A training up to a step: what it is made of, and what it recorded."""

    model: nn.Module
    frozen: Frozen
    optimizer: torch.optim.Optimizer
    schedulers: Sequence[Any]
    run: FollowedSchedule
    losses: list[float] = field(default_factory=list)
    saves: dict[str, bytes] = field(default_factory=dict)

    def saved(self) -> bytes:
        file = io.BytesIO()
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedulers": [s.state_dict() for s in self.schedulers],
            "run": self.run.state_dict(),
            "random": torch.get_rng_state(),
            "losses": self.losses,
        }
        torch.save(state, file)
        return file.getvalue()

    def load(self, saved: bytes) -> None:
        state = torch.load(io.BytesIO(saved), weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for scheduler, its in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(its)
        self.run.load_state_dict(state["run"])
        torch.set_rng_state(state["random"])
        self.losses = state["losses"]

    def weights(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


_STAGES: list[Stage] = []


def begin(
    schedule: Any,
    optimizer: str = "sgd",
    schedulers: Callable[[torch.optim.Optimizer], Sequence[Any]] = lambda _: (),
    *,
    epochs: int = 6,
    lr: float = 0.01,
    lean: bool = False,
    seed: int = 0,
    **options: Any,
) -> Trained:
    torch.manual_seed(seed)
    model = Net()
    if not _STAGES:
        _STAGES.extend(Backbone(model).stages)
    frozen = freeze_(model, "full", lean=lean)
    frozen.backbone.__dict__["stages"] = tuple(_STAGES)  # staged once for all tests
    phases = schedule if isinstance(schedule, str) else True
    groups = frozen.param_groups(lr, 0.05, all_phases=phases)
    made = OPTIMIZERS[optimizer](groups)
    attached = schedulers(made)
    run = frozen.follow(
        schedule,
        made,
        attached,
        epochs=epochs,
        steps_per_epoch=PER_EPOCH,
        sample=batch(99)[0],
        **options,
    )
    return Trained(model, frozen, made, attached, run)


def go_on(
    training: Trained,
    steps: Iterable[int],
    *,
    save: Iterable[int] = (),
    each: Callable[[Trained, int], None] = lambda *_: None,
) -> Trained:
    """Train; a state is saved before and after the call of `run.step()` of each step in `save`."""
    saved = set(save)
    for step in steps:
        images, labels = batch(step)
        training.model.train()
        loss = functional.cross_entropy(training.model(images), labels)
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        for scheduler in training.schedulers:
            scheduler.step()
        training.losses.append(loss.item())
        if step in saved:
            training.saves[f"{step} before"] = training.saved()
        training.run.step()
        finish(training, step)
        if step in saved:
            training.saves[f"{step} after"] = training.saved()
        each(training, step)
    return training


def finish(training: Trained, step: int) -> None:
    """End the epoch, if this step was its last."""
    if step % PER_EPOCH == PER_EPOCH - 1:
        training.run.epoch({"loss": sum(training.losses[-PER_EPOCH:]) / PER_EPOCH})
