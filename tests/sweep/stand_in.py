"""Trainings that are made up: quick ones, whose figures follow from their recipe alone."""

from __future__ import annotations

import base64
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from freezekit.engines.records import Outcome
from freezekit.sweep.asking import Work
from freezekit.sweep.records import Settings, Sweep, SweepRow
from freezekit.training.records import DataFacts, Epoch, Recipe, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from freezekit.engines.records import Task
    from freezekit.sweep.answers import Answers

LABELS = tuple(number % 4 for number in range(200))
DATA = DataFacts("photos", ("a", "b", "c", "d"), 800, 200, "made", "d1", LABELS, 0.2, 0)
QUALITY = {"full": 0.9, "head-only": 0.6, "first-n-stages:n=2": 0.89, "bias-only": 0.5}
COST = {"full": 100, "head-only": 10, "first-n-stages:n=2": 60, "bias-only": 90}
BEST_RATE = 1e-3


def answered(recipe: Recipe, until: int, *, images: int = 200) -> Trial:
    """Return the record of a training that was not made."""
    lr = BEST_RATE if recipe.lr == "auto" else recipe.lr
    quality = QUALITY.get(recipe.strategy, 0.7) - 0.05 * abs(np.log10(lr / BEST_RATE))
    if recipe.strategy == "diverges":
        return Trial(recipe, "diverged", "the loss is nan in step 3 (epoch 1)", lr)
    if recipe.strategy == "refuses":
        raise ValueError("the model has no such stage")
    draws = np.random.default_rng(7).random(images)  # of the images: the same for all
    own = np.random.default_rng(recipe.seed).normal(0, 0.02, (recipe.epochs, images))
    epochs, right = [], np.zeros(images, bool)
    for number in range(1, until + 1):
        level = quality * (0.7 + 0.3 * number / recipe.epochs)
        right = draws + own[number - 1] < level
        seconds = COST.get(recipe.strategy, 50) / 100 * (1 + 0.01 * recipe.seed)
        figures = {"accuracy": float(right.mean()), "loss": float(1 - right.mean())}
        operations = COST.get(recipe.strategy, 50) * 10**9
        epochs.append(Epoch(number, 1.0, lr, figures, seconds, 0.1, operations))
    return Trial(
        recipe,
        "ok" if until == recipe.epochs else "running",
        lr=lr,
        epochs=tuple(epochs),
        peak_bytes=COST.get(recipe.strategy, 50) * 2**20,
        correct=base64.b64encode(np.packbits(right).tobytes()).decode() if until else None,
    )


def run(argument: Any, report: Callable[[Any], object]) -> Any:
    """Do what a task of a training does, without one; leave a line in the log that is named."""
    recipe = msgspec.convert(argument["recipe"], Recipe)
    until = argument["until"]
    with Path(argument["log"]).open("a") as log:
        kind = "pilot" if argument["data"]["hold_out"] else "trial"
        log.write(json.dumps([recipe.label, kind, recipe.seed, recipe.lr, until]) + "\n")
    if argument.get("kill_in") == [recipe.label, recipe.seed, until]:
        os.kill(os.getpid(), signal.SIGKILL)
    place = Path(argument["storage"])
    place.mkdir(parents=True, exist_ok=True)  # as a training leaves its checkpoint
    for number in range(1, until + 1):
        report({"epochs": [0] * number})
    return msgspec.to_builtins(
        answered(recipe, until, images=160 if argument["data"]["hold_out"] else 200)
    )


class InThisProcess:
    """An engine without processes."""

    def __init__(self, *, backwards: bool = False, fails_after: int | None = None) -> None:
        self._backwards, self._left = backwards, fails_after

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        for task in reversed(tasks) if self._backwards else tasks:
            if self._left == 0:
                raise KeyboardInterrupt
            if self._left is not None:
                self._left -= 1
            messages: list[Any] = []
            try:
                answer = run(task.argument, messages.append)
            except ValueError as error:
                yield Outcome(task.name, "error", error=str(error))
                continue
            for message in messages:
                yield Outcome(task.name, "message", message)
            yield Outcome(task.name, "ok", answer)

    def close(self) -> None:
        pass


def empty(rows: Sequence[SweepRow], settings: Settings) -> Sweep:
    return Sweep("0.1.0", DATA, settings, {}, tuple(rows))


def work(answers: Answers, log: Path, engine: Any, **options: Any) -> Work:
    return Work(
        engine,
        answers,
        str(log.parent / "trials"),
        {"data": DATA.digest},
        argument={"log": str(log), "data": {}, **options},
        prediction="",
    )


def asked(log: Path) -> list[Any]:
    """Return what was trained: label, pilot or trial, seed, rate, epoch."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
