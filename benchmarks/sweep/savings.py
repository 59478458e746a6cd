"""What early stopping and the cache save, and whether the answer stays the same.

    python -m benchmarks.sweep.savings build/sweep/clipart
    python -m benchmarks.sweep.savings build/sweep/faces
    python -m benchmarks.sweep.savings build/sweep/clipart --way whole --way 'early stopping'

The same sweep of EfficientNet-Lite0 four times: with and without early stopping, with and without
the cache. Images are not augmented, so that features of training images can be kept. Epochs and
operations are counted; times are of one run, on a machine that may be shared. The result of each
set is in results/sweep-savings.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.facts import environment, write_whole
from benchmarks.sweep.accuracy import MODEL
from freezekit.sweep.store import load_sweep

FILE = Path(__file__).parents[1] / "results" / "sweep-savings.json"
SPECS = (
    "head-only",
    "last-n-stages:n=1",
    "first-n-stages:n=4",
    "first-n-stages:n=2",
    "batch-norm",
    "bias-only",
    "norm-only",
    "layer-decay",
)
SCHEDULES = ("chain-thaw",)
SETTINGS = ("--seeds", "3", "--epochs", "8", "--image-size", "64", "--batch-size", "16")
WAYS = {
    "whole": ("--no-early-stopping", "--cache", "off"),
    "early stopping": ("--cache", "off"),
    "cache": ("--no-early-stopping",),
    "both": (),
}


@click.command(help=__doc__)
@click.argument("images", type=click.Path(path_type=Path, exists=True))
@click.option("--way", "ways", multiple=True, type=click.Choice(list(WAYS)), help="Only these.")
def main(images: Path, ways: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = [
            _swept(images, way, Path(folder) / f"{way.replace(' ', '-')}.json")
            for way in ways or WAYS
        ]
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    write_whole(FILE, kept | {images.name: {"env": environment(), "sweeps": found}})
    click.echo(json.dumps(found, indent=1))


def _swept(images: Path, way: str, output: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "freezekit", "sweep", MODEL, "--data", str(images)]
    command += [word for spec in SPECS for word in ("-s", spec)]
    command += [word for text in SCHEDULES for word in ("--schedule", text)]
    command += [*SETTINGS, "--augment", "none", "--lr", "1e-3", *WAYS[way], "-o", str(output)]
    subprocess.run(command, check=True)
    return figures(way, output)


def figures(way: str, output: Path) -> dict[str, Any]:
    """Return what a sweep took and found."""
    sweep = load_sweep(output)
    epochs = [epoch for row in sweep.rows for trial in row.trials for epoch in trial.epochs]
    return {
        "way": way,
        "epochs": len(epochs),
        "cached_epochs": sum(epoch.cached for epoch in epochs),
        "gflop": sum(epoch.flops or 0 for epoch in epochs) / 1e9,
        "train_seconds": sum(epoch.train_seconds for epoch in epochs),
        "val_seconds": sum(epoch.val_seconds for epoch in epochs),
        "stopped": {row.label: row.stopped_at for row in sweep.rows if row.stopped_at},
        "recommended": sweep.recommended,
        "accuracy": {row.label: row.metric.value for row in sweep.rows if row.metric},
    }


if __name__ == "__main__":
    main()
