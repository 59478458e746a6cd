"""Do replicas stay equal when what is trained changes, and what is sent?

    python -m benchmarks.phases.ranks [--peers-python PYTHON]

Every built-in schedule, lean on and off, with two and four gloo processes on this machine, each
rank with its own data, 10 steps an epoch. After each step the parameters and buffers of all ranks
are compared. What a rank writes to its sockets is counted by the system. Beside it, what others do
with the same network: flags that are set by hand, Lightning's `BackboneFinetuning`, and
finetuning-scheduler. A trainer that PYTHON has not installed is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import environment, write_whole
from benchmarks.zoo.pool import ROOT

SCRIPTS = {"freezekit": "benchmarks.phases.on_ranks", "trainers": "benchmarks.phases.trainers"}
LIMIT_SECONDS = 1200


@click.command(help=__doc__)
@click.option("--ranks", default=(2, 4), multiple=True, show_default=True, help="Processes.")
@click.option("--only", type=click.Choice(tuple(SCRIPTS)), help="A part; other rows stay.")
@click.option("--peers-python", default=sys.executable, help="A Python that has the trainers too.")
@click.option(
    "-o",
    "--output",
    default="benchmarks/results/phases-ranks.json",
    type=click.Path(path_type=Path),
)
def main(ranks: tuple[int, ...], only: str | None, peers_python: str, output: Path) -> None:
    rows: list[dict[str, Any]] = []  # Any: JSON
    if only and output.exists():
        rows = json.loads(output.read_text(encoding="utf-8"))["rows"]
        rows = [row for row in rows if row["part"] != only or row["ranks"] not in ranks]
    for count in ranks:
        for part in (only,) if only else SCRIPTS:
            python = peers_python if part == "trainers" else sys.executable
            found = run(python, SCRIPTS[part], count)
            click.echo(f"{count} ranks, {part}")
            click.echo("\n".join(line for row in found for line in table(row)))
            rows += [{"part": part, "ranks": count, **row} for row in found]
            write_whole(output, {**environment(), "backend": "gloo", "rows": rows})
    click.echo(summary(rows))


def run(python: str, script: str, ranks: int) -> list[dict[str, Any]]:  # Any: JSON
    """Run a script by torchrun; return what its first rank found."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "rows.json"
        launch = [python, "-m", "torch.distributed.run", "--standalone"]
        done = subprocess.run(
            [*launch, "--nproc-per-node", str(ranks), "-m", script, str(output)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{script} on {ranks} ranks failed:\n{done.stderr[-3000:]}")
        rows: list[dict[str, Any]] = json.loads(output.read_text())
        return rows


def table(row: dict[str, Any]) -> list[str]:  # Any: JSON
    """Return the lines of a training: one for each phase."""
    how = row.get("schedule") or row.get("strategy") or ""
    flags = [name for name in ("lean", "finds_unused") if row.get(name)]
    title = f"{row['trainer']} {how} {' '.join(flags)}".rstrip()
    for reason in ("skipped", "failed"):
        if reason in row:
            return [f"{title}: {reason}: {row[reason]}"]
    return [
        title,
        *(
            f"    {len(phase['sent_bytes_of_steps']):>3} steps  "
            f"trained {phase['trained_bytes']:>7,} B  needs {phase['needed_bytes']:>9,} B a step, "
            f"sends {phase['sent_bytes']:>11,.0f} B  apart {phase['parameters_apart']:.3g}, "
            f"frozen buffers {phase['frozen_buffers_apart']:.3g}, "
            f"others {phase['trained_buffers_apart']:.3g}"
            for phase in row["phases"]
        ),
    ]


def summary(rows: list[dict[str, Any]]) -> str:  # Any: JSON
    """Return the largest figures of each trainer and number of ranks."""
    told = []
    done = [row for row in rows if "phases" in row]
    for trainer, ranks in dict.fromkeys((row["trainer"], row["ranks"]) for row in done):
        mine = [row for row in done if (row["trainer"], row["ranks"]) == (trainer, ranks)]
        phases = [phase for row in mine for phase in row["phases"]]
        worst, buffers = (
            max(phase[f"{name}_apart"] for phase in phases)
            for name in ("parameters", "frozen_buffers")
        )
        extra = [phase["sent_bytes"] - phase["needed_bytes"] for phase in phases]
        told.append(
            f"{trainer}, {ranks} ranks: {len(mine)} trainings, {len(phases)} phases, "
            f"{sum(len(phase['sent_bytes_of_steps']) for phase in phases)} steps: parameters apart "
            f"{worst:.3g}, frozen buffers {buffers:.3g}; sent beyond the gradients of what trains "
            f"{min(extra):,.0f} to {max(extra):,.0f} B"
        )
    return "\n".join(told)


if __name__ == "__main__":
    main()
