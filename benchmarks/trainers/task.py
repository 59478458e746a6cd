"""The fine-tune that all trainers make: photographs, model, optimizer, and what is frozen when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import torch
from timm.scheduler import CosineLRScheduler
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.cache.precision import CLASSES, photographs, pretrained
from freezekit import Backbone, plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor, nn
    from torch.utils.data import Dataset

    from benchmarks.trainers.watch import Watch

SIZE, BATCH, STEPS_PER_EPOCH, EPOCHS, TESTED = 96, 8, 6, 3, 100
STEPS = EPOCHS * STEPS_PER_EPOCH
RATE, DECAY, DROPOUT = 5e-4, 0.01, 0.2
SAVED_EVERY, KILLED_AT = 4, 10
"""So that a killed training goes on from step 8: in the middle of an epoch, after one change of
plan and before another."""

FROZEN = "first-n-stages:n=4"
SCHEDULE = "head-only then first-n-stages:n=3 at 1ep then first-n-stages:n=1 at 9step"
PHASES: Mapping[str, tuple[tuple[int, str], ...]] = {
    FROZEN: ((0, FROZEN),),
    SCHEDULE: ((0, "head-only"), (6, "first-n-stages:n=3"), (9, "first-n-stages:n=1")),
}
"""The steps that were made when each spec comes into force: said again here, and not computed from
the text, as this is what freezekit is held against."""


@dataclass(frozen=True)
class Task:
    """A training.

    Attributes:
        freeze: A spec or a schedule: a key of `PHASES`.
        lean: As in `freeze_`.
        cached: Whether the frozen prefix is computed once.
        processes: Each has an equal part of each batch.
        killed_at: The steps after which the process kills itself.
        resumes: Whether the training goes on from its last checkpoint.
        split: How a trainer divides a batch: "interleaved" or "blocks".
        rates: Whose cosine moves the learning rate: "torch" or "timm".
        folder: Of the checkpoints.
    """

    freeze: str
    folder: Path
    lean: bool = False
    cached: bool = False
    processes: int = 1
    killed_at: int | None = None
    resumes: bool = False
    split: str = "interleaved"
    rates: str = "torch"


VARIANTS: Mapping[str, dict[str, Any]] = {  # Any: arguments of Task
    "frozen": {"freeze": FROZEN},
    "schedule": {"freeze": SCHEDULE},
    "lean": {"freeze": FROZEN, "lean": True},
    "cached": {"freeze": FROZEN, "cached": True},
    "killed and resumed": {"freeze": SCHEDULE, "killed_at": KILLED_AT},
    "two processes": {"freeze": SCHEDULE, "processes": 2},
}


def reference(task: Task) -> Task:
    """Return the training whose bits a task must have."""
    return replace(task, lean=False, cached=False, killed_at=None, resumes=False)


class Trainer(Protocol):
    """What a module of a trainer has.

    `train` trains `net` in place. It calls `watch.before()` before each step and `watch.after()`
    after it, and `torch.manual_seed(step)` before each forward: not each trainer restores random
    numbers when it resumes. It writes a checkpoint each `SAVED_EVERY` steps.
    """

    SPLIT: str
    RATES: str

    @staticmethod
    def train(task: Task, net: nn.Module, data: Dataset[Any], watch: Watch) -> None:
        """Train."""


def images(stamps: Path, seed: int = 0) -> dict[str, Tensor]:
    """Return the photographs: `trained`, `labels`, `tested`, `tested_labels`."""
    pictures, classes = photographs(stamps)
    pictures = functional.interpolate(pictures, SIZE, mode="area")
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    tested, trained = order[:TESTED], order[TESTED : TESTED + BATCH * STEPS_PER_EPOCH]
    return {
        "trained": pictures[trained].clone(),
        "labels": classes[trained].clone(),
        "tested": pictures[tested].clone(),
        "tested_labels": classes[tested].clone(),
    }


def model() -> nn.Module:
    """Return EfficientNet-Lite0 with ImageNet weights, a new head and dropout before it."""
    torch.manual_seed(0)
    net = pretrained(len(CLASSES))
    net.drop_rate = DROPOUT
    return net.train()


def optimizer(groups: Iterable[Any]) -> torch.optim.Optimizer:
    """Return the optimizer, with one rate and one weight decay for all groups."""
    return torch.optim.AdamW(groups, lr=RATE, weight_decay=DECAY)


def rates(task: Task, made: torch.optim.Optimizer) -> Any:  # Any: the two have no common class
    """Return the cosine of the learning rate: `advance` moves it."""
    if task.rates == "timm":
        return CosineLRScheduler(made, t_initial=STEPS, lr_min=0.0, t_in_epochs=False)
    return torch.optim.lr_scheduler.CosineAnnealingLR(made, STEPS)


def advance(scheduler: Any, step: int) -> None:  # Any: as above
    """Move the learning rate after a step: `step` steps were made."""
    if isinstance(scheduler, CosineLRScheduler):
        scheduler.step_update(step)
    else:
        scheduler.step()


def batches(task: Task, data: Dataset[Any], rank: int = 0, first: int = 0) -> Iterator[Any]:
    """Return the batches of an epoch for a rank, in the order in which the photographs are.

    Args:
        task: The training.
        data: Images or features with labels.
        rank: Of the process.
        first: The batch to begin with.
    """
    size = BATCH // task.processes
    picked: list[int] = []
    for start in range(first * BATCH, BATCH * STEPS_PER_EPOCH, BATCH):
        if task.split == "interleaved":
            picked += range(start + rank, start + BATCH, task.processes)
        else:
            picked += range(start + rank * size, start + (rank + 1) * size)
    return iter(DataLoader(data, size, sampler=picked))


@cache
def held(spec: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of frozen parameters and of modules in eval mode, of a model of its own."""
    made = plan(Backbone(model()), spec)
    assert made.eval_modules is not None
    return made.frozen, made.eval_modules


def spec_at(task: Task, step: int) -> str:
    """Return the spec in force after so many steps.

    Example:
        >>> from pathlib import Path
        >>> [spec_at(Task(SCHEDULE, Path()), step) for step in (5, 6, 9)]
        ['head-only', 'first-n-stages:n=3', 'first-n-stages:n=1']
    """
    return [spec for first, spec in PHASES[task.freeze] if first <= step][-1]


def dataset(given: dict[str, Tensor]) -> TensorDataset:
    """Return the photographs that are trained on, with their labels."""
    return TensorDataset(given["trained"], given["labels"])
