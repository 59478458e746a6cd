"""10,000 trainings on 100 hosts: what files, storage and schedulers have to bear.

    python -m benchmarks.sweep.scale [--part files|storage|ray]...

- files: a sweep that is made up, of 2,000 candidates, 5 seeds, 10 epochs and 1,000 images: the
  size of its file, and the seconds to compute its figures, write and read it.
- storage: the requests of one real training in object storage, counted, in one part and in two.
- ray: 10,000 tasks submitted to a Ray of two cores, of which 20 are waited for and all others are
  cancelled: the seconds and the memory of the process that asks.

The result is benchmarks/results/sweep-scale.json.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
import psutil
from PIL import Image

from benchmarks.facts import environment, write_whole
from freezekit.engines.ray import RayEngine
from freezekit.engines.records import Task
from freezekit.results.files import write_text
from freezekit.sweep.records import Candidate, Settings, Sweep, SweepRow
from freezekit.sweep.store import from_json, to_json
from freezekit.sweep.summary import with_figures
from freezekit.training.records import DataFacts, Epoch, Recipe, Trial

RESULTS = Path(__file__).parents[1] / "results" / "sweep-scale.json"
CANDIDATES, SEEDS, EPOCHS, IMAGES = 2000, 5, 10, 1000
WAITED_FOR = 20


@click.command(help=__doc__)
@click.option("--part", "parts", multiple=True, type=click.Choice(["files", "storage", "ray"]))
def main(parts: tuple[str, ...]) -> None:
    # Processes of engines find this module too.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    measured = {"files": files, "storage": storage, "ray": ray}
    for part in parts or measured:
        load = Path("/proc/loadavg").read_text().split()[0]
        found[part] = {"load": float(load), **measured[part](), "environment": environment()}
        click.echo(json.dumps({part: found[part]}, indent=1))
        write_whole(RESULTS, found)


def made_up() -> Sweep:
    """Return a sweep whose trainings were never trained: accuracies by chance."""
    random = np.random.default_rng(0)
    labels = tuple(int(label) for label in np.arange(IMAGES) % 10)
    data = DataFacts("photos", tuple("abcdefghij"), 4000, IMAGES, "made", "0" * 64, labels)
    rows = []
    for number in range(CANDIDATES):
        strategy = f"first-n-stages:n={number}" if number else "full"
        chance = 0.8 + 0.1 * random.random()
        trials = tuple(trial(strategy, seed, chance, random) for seed in range(SEEDS))
        candidate = Candidate("timm:resnet18", strategy, lr=1e-3)
        rows.append(SweepRow(candidate, strategy, not number, None, "ok", trials=trials, lr=1e-3))
    settings = Settings(EPOCHS, tuple(range(SEEDS)))
    return Sweep("0.1.0", data, settings, {}, tuple(rows), complete=True)


def trial(strategy: str, seed: int, chance: float, random: np.random.Generator) -> Trial:
    right = random.random(IMAGES) < chance
    recipe = Recipe("timm:resnet18", strategy, EPOCHS, seed=seed)
    figures = {"accuracy": float(right.mean()), "balanced_accuracy": chance, "loss": 1 - chance}
    seconds = float(random.uniform(50, 60))
    epochs = tuple(
        Epoch(number, 1 - chance, 1e-3, figures, seconds, seconds / 9, 10**12)
        for number in range(1, EPOCHS + 1)
    )
    bits = base64.b64encode(np.packbits(right).tobytes()).decode()
    return Trial(recipe, "ok", None, 1e-3, epochs, 10**9, bits)


def files() -> dict[str, Any]:  # Any: figures
    sweep = made_up()
    seconds = {}
    sweep, seconds["figures"] = timed(lambda: with_figures(sweep))
    text, seconds["to JSON"] = timed(lambda: to_json(sweep))
    with tempfile.TemporaryDirectory() as folder:
        _, seconds["write"] = timed(lambda: write_text(Path(folder, "sweep.json"), text))
        answer = msgspec.json.encode(sweep.rows[0].trials[0]).decode()
        _, hundred = timed(
            lambda: [write_text(Path(folder, f"{n}.json"), answer) for n in range(100)]
        )
    again, seconds["read"] = timed(lambda: from_json(text))
    assert again == sweep
    seconds["one answer"] = hundred / 100
    return {
        "trials": CANDIDATES * SEEDS,
        "sweep_bytes": len(text.encode()),
        "answer_bytes": len(answer.encode()),
        "seconds": seconds,
        "resident_bytes": psutil.Process().memory_info().rss,
    }


def timed(work: Any) -> tuple[Any, float]:  # Any: a function without arguments, what it returns
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def storage() -> dict[str, Any]:  # Any: figures
    """Count what one training asks of object storage, in one part and with one rung."""
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem

    from freezekit.training.task import run

    asked: Counter[str] = Counter()

    class Counted(MemoryFileSystem):
        """Object storage in memory that counts."""

        protocol = "counted"

    for name in ("cat_file", "pipe_file", "makedirs", "ls", "rm", "exists", "info"):

        def count(self: Any, *given: Any, _name: str = name, **more: Any) -> Any:  # Any: fsspec's
            asked[_name] += 1
            return getattr(MemoryFileSystem, _name)(self, *given, **more)

        setattr(Counted, name, count)
    fsspec.register_implementation("counted", Counted)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        photos(Path(folder))
        for parts in ((3,), (1, 3)):
            asked.clear()
            for until in parts:
                recipe = Recipe("timm:test_resnet", "head-only", 3, batch_size=4, image_size=32)
                argument = {
                    "recipe": msgspec.to_builtins(recipe),
                    "data": {"text": folder},
                    "storage": f"counted://trials/{len(parts)}",
                    "until": until,
                }
                answer = run(argument, lambda _: None)
                assert answer["status"] in ("ok", "running"), answer["error"]
            found[f"{len(parts)} parts, 3 epochs"] = dict(asked)
    return found


def photos(folder: Path) -> None:
    random = np.random.default_rng(0)
    for label in ("cats", "dogs"):
        (folder / label).mkdir()
        for number in range(8):
            pixels = random.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")


def ray() -> dict[str, Any]:  # Any: figures
    engine = RayEngine(threads=1)
    me = psutil.Process()
    before = me.memory_info().rss
    count = CANDIDATES * SEEDS
    tasks = [Task(str(n), "benchmarks.sweep.tasks:nothing", n) for n in range(count)]
    began = time.perf_counter()
    outcomes = engine.run(tasks)
    came = []
    for _ in range(WAITED_FOR):
        next(outcomes)
        came.append(time.perf_counter() - began)
    used = me.cpu_times()
    resident = me.memory_info().rss - before
    _, cancel = timed(outcomes.close)  # type: ignore[attr-defined]  # a generator
    engine.close()
    return {
        "tasks": count,
        "first_outcome_seconds": came[0],
        "outcomes_seconds": came,
        "driver_cpu_seconds": used.user + used.system,
        "driver_bytes": resident,
        "cancel_seconds": cancel,
    }


if __name__ == "__main__":
    main()
