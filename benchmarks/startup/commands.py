"""How long commands take that must feel instant, and the static figures of resnet50.

    python benchmarks/startup/commands.py [-o benchmarks/results/startup.json]

Each command runs in a fresh process, 15 times, interleaved with bare Python; medians and extremes.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click

COMMANDS = {
    "bare python": [sys.executable, "-c", ""],
    "freezekit --help": [sys.executable, "-m", "freezekit", "--help"],
    "freezekit plugins": [sys.executable, "-m", "freezekit", "plugins"],
    "freezekit strategies": [sys.executable, "-m", "freezekit", "strategies"],
}
STATIC = [sys.executable, "-m", "freezekit", "bench", "torchvision:resnet50", "--static"]


@click.command(help=__doc__)
@click.option("-o", "--output", default="benchmarks/results/startup.json", type=click.Path())
@click.option("--runs", default=15)
def main(output: str, runs: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(runs + 1):
        for name, command in COMMANDS.items():
            took = _seconds(command)
            if run:  # the first finds cold caches
                seconds[name].append(took)
    seconds["bench torchvision:resnet50 --static (six strategies)"] = [
        _seconds(STATIC) for _ in range(3)
    ]
    for name, found in seconds.items():
        middle = statistics.median(found)
        click.echo(f"{name:<52} {middle:6.3f} s  [{min(found):.3f}, {max(found):.3f}]")
    load = Path("/proc/loadavg").read_text().split()[0]
    data = {"python": sys.version, "load_after": load, "seconds": seconds}
    Path(output).write_text(json.dumps(data, indent=1) + "\n")


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
