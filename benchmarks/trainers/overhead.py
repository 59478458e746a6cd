"""What does a callback add to a step, beside what its trainer adds?

    python -m benchmarks.trainers.overhead

A model so small that a step of a plain loop takes about a millisecond, its head trained. In one
training, the callback and what it registered at the optimizer are taken away and put back from step
to step, in pairs whose order is drawn: the differences within pairs are what it adds. The median is
robust against other programs on the machine; its 95 % interval is that of the sign test. Beside it,
a callback of which no hook does anything, and a control in which nothing is taken away. Between two
steps, a plain loop makes one, for the scale. CPU time of the process, in one thread. A run adds its
pairs to those in the file.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
import warnings
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import torch
from scipy.stats import binom

from benchmarks.facts import environment, write_whole
from benchmarks.trainers.overhead_trainings import FREEZES, PAIRS, SKIPPED, TRAINERS, Plain

if TYPE_CHECKING:
    from collections.abc import Sequence


PARTS = "without", "with", "plain"


class Switch:
    """Takes a callback away and puts it back, and times the steps of a trainer with and without it.

    Attributes:
        seconds: The step without, the one with, and the plain loop's, for each pair.
    """

    def __init__(self, case: str) -> None:
        self.case = case
        self.seconds: list[tuple[float, float, float]] = []
        self._drawn = random.Random(0)
        self._order, self._done = [False, True], dict[bool, float]()
        self._kept: dict[str, Any] = {}  # Any: hooks
        self._count, self._begin, self._plain = 0, 0.0, Plain()

    def step(self, holder: Any, callback: object, optimizer: Any) -> None:
        """Note the step that has ended, and prepare the next one.

        Args:
            holder: What has the list `callbacks`. It gets another list: it goes through this one.
            callback: The one that is taken away and put back.
            optimizer: What a schedule has registered hooks at.
        """
        took = time.process_time() - self._begin
        self._count += 1
        if self._count > SKIPPED and len(self.seconds) < PAIRS:
            self._done[self._order[len(self._done)]] = took
            if len(self._done) == 2:
                self.seconds.append((self._done[False], self._done[True], self._plain.step()))
                self._order, self._done = self._drawn.sample([False, True], 2), {}
        is_next = len(self.seconds) == PAIRS or self._order[len(self._done)]
        if self.case != "control" and self._count >= SKIPPED:
            others = [each for each in holder.callbacks if each is not callback]
            if (len(others) < len(holder.callbacks)) != is_next:
                holder.callbacks = [callback, *others] if is_next else others
                self._swap_hooks(optimizer)
        self._begin = time.process_time()

    def _swap_hooks(self, optimizer: Any) -> None:
        """Exchange the hooks that a schedule registered for none, and back."""
        if self.case != "schedule":
            return
        for name in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
            hooks = getattr(optimizer, name)
            kept = dict(self._kept.pop(name, {}))
            if not kept:
                self._kept[name] = dict(hooks)
            hooks.clear()
            hooks.update(kept)


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median and its 95 % interval by the sign test.

    Example:
        >>> middle(range(101))
        (50, 40, 60)
    """
    ordered = sorted(values)
    rank = int(binom.ppf(0.025, len(ordered), 0.5))
    return median(ordered), ordered[rank], ordered[-1 - rank]


def summary(seconds: Sequence[tuple[float, float, float]]) -> dict[str, Any]:  # Any: JSON
    """Return the median steps, and what the callback adds, with its interval."""
    return {
        "plain_seconds": median(plain for _, _, plain in seconds),
        "trainer_seconds": median(without for without, _, _ in seconds),
        "added_seconds": list(middle([having - without for without, having, _ in seconds])),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:  # Any: JSON
    """Return the summary in Markdown."""
    lines = [
        "| trainer | | plain loop | the trainer alone | added to a step |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        plain, alone = 1e6 * row["plain_seconds"], 1e6 * row["trainer_seconds"]
        added = [1e6 * value for value in row["added_seconds"]]
        lines.append(
            f"| {row['trainer']} | {row['case']} | {plain:.0f} µs | {alone:.0f} µs | "
            f"{added[0]:.1f} µs ({added[1]:.1f} to {added[2]:.1f}), {added[0] / alone:.1%} |"
        )
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(tuple(TRAINERS)), help="One trainer; other rows stay.")
@click.option("--fresh", is_flag=True, help="Leave out the pairs that are in the file.")
@click.option(
    "-o",
    "--output",
    default=Path("benchmarks/results/trainers-overhead.json"),
    type=click.Path(path_type=Path),
)
def main(only: str | None, fresh: bool, output: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    done = {}
    if output.exists():
        rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
        done = {(row["trainer"], row["case"]): row for row in rows}
    for trainer in (only,) if only else TRAINERS:
        for case in FREEZES:
            load = os.getloadavg()[0]
            TRAINERS[trainer](case, switch := Switch(case))
            before = {} if fresh else done.get((trainer, case), {})
            loads = [*before.get("loads", ()), load, os.getloadavg()[0]]
            done[trainer, case] = pooled(trainer, case, before, switch.seconds) | {"loads": loads}
        rows = [done[key] for key in product(TRAINERS, FREEZES) if key in done]
        write_whole(output, {"environment": environment(), "rows": rows})
    click.echo(table(rows))


def pooled(
    trainer: str, case: str, before: dict[str, Any], seconds: Sequence[tuple[float, float, float]]
) -> dict[str, Any]:  # Any: JSON
    """Return a row of the pairs of all runs."""
    raw = {
        name: " ".join(
            [
                *before.get("raw_microseconds", {}).get(name, "").split(),
                *(f"{1e6 * s:.0f}" for s in column),
            ]
        )
        for name, column in zip(PARTS, zip(*seconds, strict=True), strict=True)
    }
    columns = ([1e-6 * float(value) for value in raw[name].split()] for name in PARTS)
    pairs = list(zip(*columns, strict=True))
    row = {"trainer": trainer, "case": case, "pairs": len(pairs), **summary(pairs)}
    return row | {"raw_microseconds": raw}


if __name__ == "__main__":
    main()
