"""What an engine costs: to start, for each task, and to stop.

    python -m benchmarks.sweep.engines [--rounds 3] [--only NAME]...

Each round starts each engine once, on two cores, and runs tasks that do nothing, then tasks that
import torch, torchvision and timm, as each training does. Engines take turns within a round. The
first task is part of the start. Raw lines go to benchmarks/results/sweep-engines.jsonl, and a table
to the screen; `--table` prints it from the file.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.facts import environment
from freezekit.engines.local import LocalEngine
from freezekit.engines.ray import RayEngine
from freezekit.engines.records import Task
from freezekit.engines.slurm import SlurmEngine

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.engines.records import Engine

RESULTS = Path(__file__).parents[1] / "results" / "sweep-engines.jsonl"
AT_ONCE = 2
TASKS = {"nothing": 12, "imports": 6}
"""Tasks of a run, by their function."""


def engines(folder: str) -> dict[str, Callable[[], Engine]]:
    """Return what starts each engine."""
    local = partial(LocalEngine, at_once=AT_ONCE, threads=1)
    return {
        "local": local,
        "local, not forked": partial(local, is_forked=False),
        "ray": partial(RayEngine, threads=1),
        "submitit, local": partial(SlurmEngine, folder, cluster="local", poll_seconds=0.1),
    }


@click.command(help=__doc__)
@click.option("--rounds", default=3, show_default=True)
@click.option("--only", multiple=True, help="These engines alone.")
@click.option("--table", "is_table", is_flag=True, help="Measure nothing.")
def main(rounds: int, only: tuple[str, ...], is_table: bool) -> None:
    # Processes of engines find this module too.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    lines = [] if not RESULTS.exists() else [*map(json.loads, RESULTS.read_text().splitlines())]
    for number in range(0 if is_table else rounds):
        for name in only or engines(""):
            with tempfile.TemporaryDirectory() as folder:
                line = measured(name, engines(folder)[name])
            lines.append({**line, "round": number, "environment": environment()})
            click.echo(json.dumps(line))
            RESULTS.write_text("".join(json.dumps(one) + "\n" for one in lines))
    click.echo(table(lines))


def measured(name: str, start: Callable[[], Engine]) -> dict[str, Any]:  # Any: JSON
    """Start an engine, run tasks, stop it; return the seconds of each."""
    load = Path("/proc/loadavg").read_text().split()[0]
    began = time.perf_counter()
    engine = start()
    run(engine, "nothing", 1)
    found: dict[str, Any] = {"engine": name, "load": float(load)}
    found["start_seconds"] = time.perf_counter() - began
    for function, count in TASKS.items():
        began = time.perf_counter()
        run(engine, function, count)
        found[f"{function}_seconds"] = (time.perf_counter() - began) / count
    began = time.perf_counter()
    engine.close()
    found["stop_seconds"] = time.perf_counter() - began
    return found


def run(engine: Engine, function: str, count: int) -> None:
    tasks = [Task(str(n), f"benchmarks.sweep.tasks:{function}", n) for n in range(count)]
    outcomes = [one for one in engine.run(tasks) if one.status != "message"]
    assert sorted(one.answer for one in outcomes) == [*range(count)], outcomes


def table(lines: list[dict[str, Any]]) -> str:  # Any: JSON
    """Return medians as a table in Markdown."""
    columns = ("start_seconds", *(f"{name}_seconds" for name in TASKS), "stop_seconds")
    rows = [
        "| engine | start, with the first task | a task of nothing | a task that imports | stop |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys(line["engine"] for line in lines):
        mine = [line for line in lines if line["engine"] == name]
        middle = (statistics.median(line[column] for line in mine) for column in columns)
        rows.append(f"| {name} | " + " | ".join(f"{value:.2f} s" for value in middle) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
