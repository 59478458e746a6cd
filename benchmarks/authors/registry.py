"""Two hundred plugins beside the built-ins: does `freezekit strategies` still start at once?

    python benchmarks/authors/registry.py [-o benchmarks/results/authors-registry.json]

Writes distributions (a module and a `.dist-info` folder each) to a folder on the path, and runs
the command in fresh processes, interleaved: with no plugin beside the built-ins, with 200, and with
200 of which one raises when it is imported. Also checked: all 200 strategies are listed, and beside
a broken one the 199 others.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

PLUGINS = 200
MODULE = '''"""One of many."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from freezekit import Backbone, FreezePlan, Strategy, hookimpl


@dataclass(frozen=True)
class Made{i}(Strategy):
    """Freeze the first parameters."""

    name: ClassVar[str] = "made-{i}"
    summary: ClassVar[str] = "freeze the first parameters"

    n: Annotated[int, "how many"] = {i}

    def plan(self, backbone: Backbone) -> FreezePlan:
        return FreezePlan(list(backbone.parameters)[: self.n])


@hookimpl
def freezekit_strategies() -> list[type[Strategy]]:
    return [Made{i}]
'''


@click.command(help=__doc__)
@click.option("-o", "--output", default="benchmarks/results/authors-registry.json")
@click.option("--runs", default=15)
def main(output: str, runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sound, broken = Path(folder) / "sound", Path(folder) / "broken"
        for root in (sound, broken):
            for i in range(PLUGINS):
                _write(root, i)
        (broken / "made_0.py").write_text('raise RuntimeError("broken on purpose")\n')
        paths = {
            "built-ins alone": "",
            f"{PLUGINS} plugins": str(sound),
            f"{PLUGINS} plugins, one of them broken": str(broken),
        }
        listed = {name: _list(path)[1] for name, path in paths.items()}
        assert list(listed.values()) == [0, PLUGINS, PLUGINS - 1], listed
        seconds: dict[str, list[float]] = {name: [] for name in paths}
        for _ in range(runs):
            for name, path in paths.items():
                seconds[name].append(_list(path)[0])
    for name, found in seconds.items():
        middle = statistics.median(found)
        click.echo(f"{name:<40} {middle:6.3f} s  [{min(found):.3f}, {max(found):.3f}]")
    load = Path("/proc/loadavg").read_text().split()[0]
    data = {"python": sys.version, "load_after": load, "listed": listed, "seconds": seconds}
    Path(output).write_text(json.dumps(data, indent=1) + "\n")


def _list(path: str) -> tuple[float, int]:
    """Return the seconds that `freezekit strategies` takes, and how many of ours it lists."""
    command = [sys.executable, "-m", "freezekit", "strategies", "--json"]
    started = time.perf_counter()
    ran = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    took = time.perf_counter() - started
    offered = json.loads(ran.stdout)["strategies"]
    return took, sum(entry["name"].startswith("made-") for entry in offered)


def _write(root: Path, i: int) -> None:
    info = root / f"freezekit_made_{i}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: freezekit-made-{i}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[freezekit]\nmade-{i} = made_{i}\n")
    (root / f"made_{i}.py").write_text(MODULE.replace("{i}", str(i)))


if __name__ == "__main__":
    main()
