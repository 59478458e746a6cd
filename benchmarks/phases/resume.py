"""Is a resume exact, at every step of a training that follows a schedule?

    python -m benchmarks.phases.resume [-o benchmarks/results/phases-resume.json]

A training of 30 steps saves its state before and after each call of `run.step()`. From each of the
60 states another training, made with another seed, loads and goes on to the end. At each later
moment its weights, buffers, losses, learning rates, random state, and the states of optimizer,
schedulers and schedule must have the same bits. All run on the CPU, in one thread.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch
from torch.nn import functional

from benchmarks.facts import environment, write_whole
from benchmarks.phases.training import SCHEDULES, Net, batch, optimizers, warm_restarts
from freezekit import freeze_

STEPS, PER_EPOCH = 30, 5


class Training:
    """A model in training, up to a moment: before or after the call of `run.step()` in a step."""

    def __init__(self, schedule: str, optimizer: str, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = Net()
        frozen = freeze_(self.model, "full")
        groups = frozen.param_groups(0.01, 0.05, all_phases=schedule)
        self.optimizer = optimizers()[optimizer](groups)
        self.scheduler = warm_restarts(self.optimizer)
        self.run = frozen.follow(
            schedule,
            self.optimizer,
            [self.scheduler],
            epochs=STEPS // PER_EPOCH,
            steps_per_epoch=PER_EPOCH,
            sample=batch(10_000)[0],
        )
        self.losses: list[float] = []

    def train(self, step: int) -> None:
        """Do all that a step does before `run.step()`."""
        images, labels = batch(step)
        loss = functional.cross_entropy(self.model.train()(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.losses.append(loss.item())

    def finish(self, step: int) -> None:
        """Call `run.step()`, and `run.epoch()` after the last step of an epoch."""
        self.run.step()
        if step % PER_EPOCH == PER_EPOCH - 1:
            self.run.epoch({"loss": sum(self.losses[-PER_EPOCH:]) / PER_EPOCH})

    def state(self) -> dict[str, Any]:  # Any: what torch.save holds
        """Return all that a checkpoint needs."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "run": self.run.state_dict(),
            "random": torch.get_rng_state(),
            "losses": self.losses,
        }

    def load(self, saved: bytes) -> None:
        """Go on from a checkpoint."""
        state = torch.load(io.BytesIO(saved), weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.run.load_state_dict(state["run"])
        torch.set_rng_state(state["random"])
        self.losses = state["losses"]

    def parts(self) -> dict[str, str]:
        """Return a digest of each part of the state, and of the flags and modes."""
        flags = [parameter.requires_grad for parameter in self.model.parameters()]
        modes = [module.training for module in self.model.modules()]
        return {name: digest(part) for name, part in self.state().items()} | {
            "flags": digest(flags),
            "modes": digest(modes),
        }


def digest(value: Any) -> str:  # Any: what torch.save holds
    """Return a digest of the bits of tensors and numbers.

    Example:
        >>> digest({"a": torch.zeros(2)}) == digest({"a": -torch.zeros(2)})
        False
    """
    found = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, torch.Tensor):
            found.update(f"{part.dtype}{tuple(part.shape)}".encode())
            found.update(part.detach().contiguous().numpy().tobytes())
        elif isinstance(part, dict):
            for key in part:
                found.update(f"key {key!r}".encode())
                add(part[key])
        elif isinstance(part, (list, tuple)):
            found.update(f"{len(part)} items".encode())
            for item in part:
                add(item)
        elif isinstance(part, float):
            found.update(struct.pack("<d", part))
        else:
            found.update(repr(part).encode())

    add(value)
    return found.hexdigest()


def examine(schedule: str, optimizer: str) -> dict[str, Any]:  # Any: JSON
    """Resume a training at each moment; return how many states were compared, and which differ."""
    whole = Training(schedule, optimizer, seed=0)
    expected: list[dict[str, str]] = []
    saves: list[bytes] = []
    for step in range(STEPS):
        for act in (whole.train, whole.finish):
            act(step)
            file = io.BytesIO()
            torch.save(whole.state(), file)
            saves.append(file.getvalue())
            expected.append(whole.parts())
    checked, failed, differing = 0, 0, set[str]()
    for moment, saved in enumerate(saves):
        again = Training(schedule, optimizer, seed=moment + 1)
        again.load(saved)
        for later in range(moment, len(saves)):
            step, is_after = divmod(later, 2)
            if later > moment:
                (again.finish if is_after else again.train)(step)
            found = again.parts()
            checked += 1
            failed += found != expected[later]
            differing |= {name for name in found if found[name] != expected[later][name]}
    return {
        "transitions": [
            [t.step, len(t.change.frozen), len(t.change.thawed)] for t in whole.run.transitions
        ],
        "resumed": len(saves),
        "checked": checked,
        "failed": failed,
        "differing": sorted(differing),
    }


@click.command(help=__doc__)
@click.option(
    "--only",
    default="",
    metavar="TEXT",
    help="Only schedules whose name has this; other rows stay.",
)
@click.option(
    "-o",
    "--output",
    default="benchmarks/results/phases-resume.json",
    type=click.Path(path_type=Path),
)
def main(only: str, output: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    done: dict[tuple[str, str], dict[str, Any]] = {}  # Any: JSON
    if only and output.exists():
        done = {(row["name"], row["optimizer"]): row for row in _rows(output)}
    for name, optimizer in product(SCHEDULES, optimizers()):
        if only not in name:
            continue
        started = time.perf_counter()
        row: dict[str, Any] = {"name": name, "schedule": SCHEDULES[name], "optimizer": optimizer}
        row |= examine(SCHEDULES[name], optimizer)
        done[name, optimizer] = row
        rows = [done[key] for key in product(SCHEDULES, optimizers()) if key in done]
        write_whole(output, {**environment(), "steps": STEPS, "rows": rows})
        click.echo(
            f"{name:<20} {optimizer:<14} {len(row['transitions'])} transitions  "
            f"{row['checked']} states checked, {row['failed']} failed {row['differing'] or ''}  "
            f"{time.perf_counter() - started:.0f} s"
        )
    for key in ("checked", "failed"):
        click.echo(f"{sum(row[key] for row in _rows(output)):,} states {key} in {output}")


def _rows(path: Path) -> list[dict[str, Any]]:  # Any: JSON
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


if __name__ == "__main__":
    main()
