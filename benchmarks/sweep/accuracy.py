"""Accuracy against cost on real images: all built-in strategies and schedules.

    python -m benchmarks.sweep.data packages build/sweep
    python -m benchmarks.sweep.accuracy build/sweep [--only SET]   # about half an hour a set
    python -m benchmarks.sweep.accuracy --page                     # the tables of the page

EfficientNet-Lite0 with ImageNet weights is trained on each set of `benchmarks.sweep.data`, five
seeds a candidate, by `freezekit sweep`. No candidate is stopped early, so that each row is whole.
What is not trained yet is trained by the same command. Results are in results/sweep-SET.json. The
tables have counted operations and predicted memory. Times are in the files alone: the load of the
machine was not the same throughout.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from freezekit.sweep.store import load_sweep

if TYPE_CHECKING:
    from freezekit.sweep.records import Estimate, Sweep, SweepRow

RESULTS = Path("benchmarks/results")  # these texts stand in the results
MODEL = "benchmarks/sweep/lite0.py:build"
SETS = "stamps", "clipart", "digits", "faces"
MIRRORED_IS_ANOTHER = ("digits",)
"""Sets whose images are not augmented: flips would make other digits of them."""

SPECS = (
    "head-only",
    "first-n-stages:n=2",
    "first-n-stages:n=4",
    "last-n-stages:n=1",
    "fraction:share=0.6",
    "surgical:stages=first",
    "by-name:contains=bn",
    "batch-norm",
    "norm-only",
    "bias-only",
    "discriminative-lr:decay=0.5,freeze_below=0.1",
    "layer-decay",
)
SCHEDULES = (
    "gradual-unfreeze",
    "lp-ft",
    "chain-thaw",
    "freeze-out",
    "one-cycle-unfreeze",
    "auto-rgn",
    "plasticity",
    "on-plateau",
)
SETTINGS = ("--seeds", "5", "--epochs", "6", "--image-size", "64", "--batch-size", "16")


@click.command(help=__doc__)
@click.argument("sets", required=False, type=click.Path(path_type=Path, exists=True))
@click.option("--only", multiple=True, type=click.Choice(SETS))
@click.option("--page", is_flag=True, help="Print the tables; train nothing.")
def main(sets: Path | None, only: tuple[str, ...], page: bool) -> None:
    if page:
        for name in SETS:
            if (RESULTS / f"sweep-{name}.json").exists():
                click.echo(_table(name, load_sweep(RESULTS / f"sweep-{name}.json")))
        return
    if sets is None:
        raise click.UsageError("name the folder that benchmarks.sweep.data made")
    for name in only or SETS:
        _train(name, sets / name)


def _train(name: str, folder: Path) -> None:
    trials = folder.with_name(f"{name}.trials")
    command = [sys.executable, "-m", "freezekit", "sweep", MODEL, "--data", str(folder)]
    command += [word for spec in SPECS for word in ("-s", spec)]
    command += [word for text in SCHEDULES for word in ("--schedule", text)]
    command += [*SETTINGS, "--no-early-stopping", "--trials", str(trials)]
    command += ["-o", str(RESULTS / f"sweep-{name}.json")]
    command += ["--augment", "none"] if name in MIRRORED_IS_ANOTHER else []
    command += ["--resume"] if trials.exists() else []
    code = subprocess.run(command, check=False).returncode
    if code not in (0, 4):  # 4: a candidate failed, and its row says why
        sys.exit(code)


def _table(name: str, sweep: Sweep) -> str:
    data = sweep.data
    lines = [
        f"### {name}",
        "",
        f"{data.train_samples} images of training, {data.val_samples} of validation, "
        f"{len(data.classes)} classes. Recommended: {sweep.recommended}.",
        "",
        "| | rate | accuracy, % | to `full`, points | GFLOP | memory |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    return "\n".join([*lines, *map(_line, sweep.rows), ""])


def _line(row: SweepRow) -> str:
    name = f"`{row.label}`" + (" *" if row.on_front else "")
    if row.status != "ok" or row.metric is None:
        return f"| {name} | | {row.status}: {row.error} | | | |"
    rate = "" if row.lr is None else f"{row.lr:g}"
    ratios = row.gflops_to_baseline, row.peak_bytes_to_baseline
    cost = " | ".join("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
    figures = _points(row.metric), _points(row.metric_to_baseline), cost
    return f"| {name} | {rate} | {' | '.join(figures)} |"


def _points(found: Estimate | None) -> str:
    if found is None:
        return ""
    if found.low is None or found.high is None:
        return f"{100 * found.value:.1f}"
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


if __name__ == "__main__":
    main()
