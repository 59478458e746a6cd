"""How large is an HTML report, and how long does it take to make?

    python benchmarks/report_size.py [-o benchmarks/results/report-size.json]

Results of 10, 100 and 1000 rows, made up like those of a ResNet-50 (six stages) timed in the full
protocol: 8 blocks of 3 rounds of 3 steps. Each is written in fresh processes, 5 times; seconds are
those of `freezekit report`, from the command to the file. Also told: how much of the size is what
draws the charts, their specs, and the result itself.
"""

from __future__ import annotations

import json
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import click

from freezekit.report.formats import RESULT_FORMATS
from freezekit.report.output import write
from freezekit.results.records import (
    Control,
    Flops,
    Memory,
    Parameters,
    Plugin,
    Raw,
    Result,
    Row,
    StageFigures,
    StepSeconds,
    Time,
    Workload,
)

ROWS = (10, 100, 1000)
BLOCKS, ROUNDS, STEPS, WARMUP = 8, 3, 3, 3
STAGES = {
    "stem": 9_536,
    "layer1": 215_808,
    "layer2": 1_219_584,
    "layer3": 7_098_368,
    "layer4": 14_964_736,
    "head": 2_049_000,
}
MIB = 2**20


@click.command(help=__doc__)
@click.option("-o", "--output", default="benchmarks/results/report-size.json", type=click.Path())
@click.option("--runs", default=5)
def main(output: str, runs: int) -> None:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for rows in ROWS:
            stored, page = Path(folder) / f"{rows}.json", Path(folder) / f"{rows}.html"
            write([made(rows)], RESULT_FORMATS, stored)
            seconds = [_seconds(stored, page) for _ in range(runs)]
            found[rows] = {
                "html_bytes": page.stat().st_size,
                "json_bytes": stored.stat().st_size,
                "parts_bytes": _parts(page.read_text()),
                "seconds": seconds,
            }
            click.echo(
                f"{rows:5} rows: {page.stat().st_size / MIB:5.2f} MiB, "
                f"{statistics.median(seconds):5.2f} s [{min(seconds):.2f}, {max(seconds):.2f}]"
            )
    data = {
        "python": sys.version,
        "platform": platform.platform(),
        **{name: version(name) for name in ("altair", "jinja2", "vl-convert-python")},
        "load_after": Path("/proc/loadavg").read_text().split()[0],
        "rows": found,
    }
    Path(output).write_text(json.dumps(data, indent=1) + "\n")


def made(rows: int) -> Result:
    """Return a result of that many strategies."""
    dice = random.Random(rows)
    labels = ["full", *(f"first-n-stages:n={n} + by-name:contains=x{n}" for n in range(1, rows))]
    control = {label: _turns(dice, label) for label in (*labels, "control")}
    raw = Raw(
        order=[
            [dice.sample(list(control), len(control)) for _ in range(ROUNDS)] for _ in range(BLOCKS)
        ],
        steps=[
            [{label: _steps(dice, base, STEPS) for label, base in control.items()}] * ROUNDS
            for _ in range(BLOCKS)
        ],
        warmup=[
            {label: _steps(dice, base, WARMUP) for label, base in control.items()}
            for _ in range(BLOCKS)
        ],
    )
    return Result(
        "0.1.0",
        Workload("torchvision:resnet50", input_shape=(8, 3, 224, 224)),
        env={"torch": "2.14.1", "threads": 2, "command": "freezekit bench torchvision:resnet50"},
        rows=tuple(_row(dice, label, control[label]) for label in labels),
        control=Control(1.004, (0.98, 1.02)),
        raw=raw,
        timing_design={"blocks": BLOCKS, "rounds": ROUNDS, "discarded_steps": 1, "cut": None},
        complete=True,
    )


def _turns(dice: random.Random, label: str) -> float:
    return 0.6 if label in ("full", "control") else dice.uniform(0.2, 0.6)


def _steps(dice: random.Random, base: float, count: int) -> list[float]:
    return [round(base * dice.uniform(0.97, 1.05), 9) for _ in range(count)]


def _row(dice: random.Random, label: str, base: float) -> Row:
    frozen = 0 if label == "full" else dice.randrange(1, len(STAGES))
    stages = tuple(
        StageFigures(
            name,
            "stem" if name == "stem" else "head" if name == "head" else "body",
            parameters=count,
            trainable=count if at >= frozen else 0,
            modules=20,
            held_in_eval=0 if at >= frozen else 20,
            forward_flops=dice.randrange(10**9, 10**10),
        )
        for at, (name, count) in enumerate(STAGES.items())
    )
    total, trainable = sum(STAGES.values()), sum(stage.trainable for stage in stages)
    saved = int(213 * MIB * (1 - frozen / len(STAGES)))
    always, gradients, workspace = 4 * total + 2 * MIB, 4 * trainable, 6 * MIB
    memory = Memory(
        peak_bytes=always + gradients + saved + workspace + 9 * MIB,
        peak_method="measured",
        parameters_bytes=4 * total,
        buffers_bytes=MIB // 2,
        inputs_bytes=2 * MIB - MIB // 2,
        gradients_bytes=gradients,
        optimizer_bytes=gradients,
        saved_activations_bytes=saved,
        workspace_bytes=workspace,
        gradients_at_peak_bytes=gradients // 10,
        saved_at_peak_bytes=saved,
    )
    ratio = base / 0.6
    known = Time(
        StepSeconds(base, base * 0.97, base * 1.05),
        ratio,
        (ratio * 0.97, ratio * 1.03),
        "baseline" if label == "full" else "faster",
    )
    return Row(
        label,
        plugin=Plugin("first-n-stages", "freezekit", "0.1.0"),
        parameters=Parameters(total, trainable, f"{trainable:012x}"),
        memory=memory,
        flops=Flops(32 * 10**9, 60 * 10**9),
        time=known,
        stages=stages,
    )


def _seconds(stored: Path, page: Path) -> float:
    command = [sys.executable, "-m", "freezekit", "report", str(stored), "-o", str(page)]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started


def _parts(text: str) -> dict[str, int]:
    scripts = re.findall(r'<script[^>]*?(?:id|class)="(\w+)"[^>]*>(.*?)</script>', text, re.DOTALL)
    found: dict[str, int] = {}
    for name, inside in scripts:
        found[name] = found.get(name, 0) + len(inside.encode())
    return {**found, "tables and text": len(text.encode()) - sum(found.values())}


if __name__ == "__main__":
    main()
