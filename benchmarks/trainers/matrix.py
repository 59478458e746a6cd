"""Does each trainer train what a loop without freezekit does, bit for bit?

    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default_*.deb stamps
    python -m benchmarks.trainers.matrix --stamps stamps/usr/share/tuxpaint/stamps

Each training is a process of its own, in one thread; "two processes" are two. The killed one sends
itself SIGKILL after 10 steps, and another process goes on from its last checkpoint, of step 8. A
training that is in the file already is not made again. Photographs and weights are those of
`benchmarks/cache/precision.py`; no network is used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.facts import environment, write_whole
from benchmarks.trainers import task as tasks
from benchmarks.zoo.pool import ROOT

TRAINERS = {
    "plain": "freezekit",
    "lightning": "lightning",
    "hugging_face": "transformers",
    "accelerate": "accelerate",
    "timm": "timm",
}
"""Modules here, and the package whose version counts."""
TITLES = {
    "plain": "plain loop, freezekit",
    "lightning": "Lightning",
    "hugging_face": "Hugging Face Trainer, transformers",
    "accelerate": "loop with Accelerate",
    "timm": "loop of timm's parts, timm",
}
LIMIT_SECONDS = 400


def launch(trainer: str, variant: str, folder: Path, *flags: str) -> int:
    """Run a training, and return the exit status."""
    processes = tasks.VARIANTS[variant].get("processes", 1)
    runner = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [
            sys.executable,
            *(runner if processes > 1 else []),
            *("-m", "benchmarks.trainers.one", trainer, variant, str(folder), *flags),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode > 0:
        raise RuntimeError(done.stderr[-3000:])
    return done.returncode


def examine(trainer: str, variant: str, folder: Path) -> dict[str, Any]:  # Any: JSON
    """Train, and return what differs from the loop without freezekit."""
    status = launch(trainer, variant, folder)
    row: dict[str, Any] = {"trainer": trainer, "variant": variant}
    row["version"] = version(TRAINERS[trainer])
    if tasks.VARIANTS[variant].get("killed_at"):
        if status != -9:
            raise RuntimeError(f"the process ended with {status}, and was to be killed")
        row["killed"] = True
        launch(trainer, variant, folder, "--resumes")
    by_hand = folder.parent / f"by hand {reference_of(trainer, variant)}"
    if not by_hand.exists():
        by_hand.mkdir()
        launch(trainer, variant, by_hand, "--by-hand")
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("found-*.json"))]
    expected = [json.loads(path.read_text()) for path in sorted(by_hand.glob("found-*.json"))]
    states, wanted = (
        [torch.load(path, weights_only=True) for path in sorted(place.glob("state-*.pth"))]
        for place in (folder, by_hand)
    )
    row["ranks"] = found
    row["by_hand"] = expected
    row["apart_from_by_hand"] = [
        apart(one, other) for one, other in zip(states, wanted, strict=True)
    ]
    if len(states) > 1:
        row["ranks_apart"] = apart(*states)
    return row


def reference_of(trainer: str, variant: str) -> str:
    """Return the name of the loop without freezekit that a training is held against."""
    module = __import__(f"benchmarks.trainers.{trainer}", fromlist=["SPLIT"])
    chosen = tasks.VARIANTS[variant]
    parts = ["schedule" if chosen["freeze"] == tasks.SCHEDULE else "frozen", module.RATES]
    if chosen.get("processes", 1) > 1:
        parts += [module.SPLIT, "two"]
    return " ".join(parts)


def apart(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return which tensors of two states differ, and by how much.

    Example:
        >>> a, b = torch.zeros(2), torch.ones(2)
        >>> apart({"w": a, "n.running_mean": a}, {"w": b, "n.running_mean": a})
        {'tensors': 2, 'differing': ['w'], 'largest': 1.0}
    """
    differing = [name for name, value in one.items() if not torch.equal(value, other[name])]
    if one.keys() != other.keys():
        raise RuntimeError(f"other names: {sorted(one.keys() ^ other.keys())[:5]}")
    largest = max((float((one[name] - other[name]).abs().max()) for name in differing), default=0.0)
    return {"tensors": len(one), "differing": differing, "largest": largest}


def cell(row: dict[str, Any]) -> str:  # Any: JSON
    """Return what a row says, in a few words."""
    worst = max(row["apart_from_by_hand"], key=lambda each: len(each["differing"]))
    said = "equal"
    if worst["differing"]:
        said = f"{len(worst['differing'])} tensors, up to {worst['largest']:.1g}"
    bad = sum(len(r["frozen_that_moved"]) + len(r["trained_that_did_not"]) for r in row["ranks"])
    return said if not bad else f"{said}; {bad} wrong"


def table(rows: list[dict[str, Any]]) -> str:
    """Return the matrix in Markdown."""
    lines = [
        "| trainer | " + " | ".join(tasks.VARIANTS) + " |",
        "|---|" + "---|" * len(tasks.VARIANTS),
    ]
    for trainer in (name for name in TITLES if any(row["trainer"] == name for row in rows)):
        mine = {row["variant"]: row for row in rows if row["trainer"] == trainer}
        cells = [cell(mine[name]) if name in mine else "" for name in tasks.VARIANTS]
        of = next(iter(mine.values()))["version"]
        lines.append(f"| {TITLES[trainer]} {of} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command(help=__doc__)
@click.option("--stamps", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--only", type=click.Choice(tuple(TRAINERS)), help="One trainer; other rows stay.")
@click.option("--fresh", is_flag=True, help="Make the chosen trainings again.")
@click.option(
    "-o",
    "--output",
    default=Path("benchmarks/results/trainers.json"),
    type=click.Path(path_type=Path),
)
def main(stamps: Path, only: str | None, fresh: bool, output: Path) -> None:
    torch.set_num_threads(1)
    rows = json.loads(output.read_text(encoding="utf-8"))["rows"] if output.exists() else []
    chosen = (only,) if only else tuple(TRAINERS)
    if fresh:
        rows = [row for row in rows if row["trainer"] not in chosen]
    done = {(row["trainer"], row["variant"]) for row in rows}
    facts = {
        "size": tasks.SIZE,
        "batch": tasks.BATCH,
        "epochs": tasks.EPOCHS,
        "steps_per_epoch": tasks.STEPS_PER_EPOCH,
        "variants": {
            name: {
                k: v
                for k, v in asdict(tasks.Task(**given, folder=Path())).items()
                if k not in ("folder", "split", "rates", "resumes")
            }
            for name, given in tasks.VARIANTS.items()
        },
    }
    with tempfile.TemporaryDirectory() as scratch:
        torch.save(tasks.images(stamps), Path(scratch) / "images.pt")
        for trainer in chosen:
            try:
                version(TRAINERS[trainer])
            except PackageNotFoundError:
                click.echo(f"{trainer}: {TRAINERS[trainer]} is not installed, skipped")
                continue
            for variant in tasks.VARIANTS:
                if (trainer, variant) in done:
                    continue
                folder = Path(scratch) / f"{trainer} {variant}"
                folder.mkdir()
                rows.append(row := examine(trainer, variant, folder))
                click.echo(f"{trainer:<12} {variant:<20} {cell(row)}")
                write_whole(output, {"environment": environment(), **facts, "rows": rows})
    click.echo(table(rows))


if __name__ == "__main__":
    main()
