"""The same sweep by processes and on Ray, where a host is killed midway: is anything lost?

    python -m benchmarks.sweep.killed build/sweep/faces

Three candidates of `timm:test_resnet` with two seeds. Ray has two hosts of one core each, on this
machine; one of them is killed while trainings run on both, and another one comes. Records are
compared field by field, but for times. Counted is what was trained twice: epochs that were done and
not kept. The result is in results/sweep-killed.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import psutil
from ray.cluster_utils import Cluster

from benchmarks.facts import environment, write_whole
from freezekit.sweep.store import load_sweep

if TYPE_CHECKING:
    from freezekit.training.records import Trial

FILE = Path(__file__).parents[1] / "results" / "sweep-killed.json"
SWEEP = ("timm:test_resnet", "--no-pretrained", "--image-size", "32", "--batch-size", "16")
CANDIDATES = ("-s", "head-only", "-s", "first-n-stages:n=2")
EXTENT = ("--seeds", "2", "--epochs", "20", "--lr", "1e-3", "--no-early-stopping")
OF_TIME = "train_seconds", "val_seconds"


@click.command(help=__doc__)
@click.argument("images", type=click.Path(path_type=Path, exists=True))
def main(images: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = time.monotonic()
        _started(images, folder / "local.json").wait()
        local_seconds = time.monotonic() - begin
        begin = time.monotonic()
        _on_dying_hosts(images, folder)
        ray_seconds = time.monotonic() - begin
        local, ray = (_trials(folder / f"{engine}.json") for engine in ("local", "ray"))
        result = {
            "env": environment(),
            "trainings": len(local),
            "equal_but_for_times": [_facts(one) for one in local] == [_facts(one) for one in ray],
            "trainings_that_went_on_elsewhere": sum(one.resumed > 0 for one in ray),
            "epochs": {"local": _epochs(local), "ray": _epochs(ray)},
            "seconds": {"local": local_seconds, "ray": ray_seconds},
        }
    write_whole(FILE, result)
    click.echo(json.dumps({k: v for k, v in result.items() if k != "env"}, indent=1))


def _started(images: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "freezekit", "sweep", *SWEEP, *CANDIDATES, *EXTENT]
    return subprocess.Popen([*command, "--data", str(images), "-o", str(output), *more])


def _on_dying_hosts(images: Path, folder: Path) -> None:
    hosts = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    dying = hosts.add_node(num_cpus=1)
    hosts.add_node(num_cpus=1)
    try:
        address = "--engine", "ray", "--address", hosts.address
        sweep = _started(images, folder / "ray.json", *address)
        kept = folder / "ray.trials" / "checkpoints"
        while sweep.poll() is None and len(list(kept.glob("*/checkpoint.pt"))) < 2:
            time.sleep(0.05)
        (raylet,) = dying.all_processes["raylet"]
        for process in psutil.Process(raylet.process.pid).children(recursive=True):
            process.kill()  # a host that dies takes its workers along
        hosts.remove_node(dying, allow_graceful=False)
        hosts.add_node(num_cpus=1)
        sweep.wait()
    finally:
        hosts.shutdown()


def _trials(path: Path) -> list[Trial]:
    return [trial for row in load_sweep(path).rows for trial in row.trials]


def _facts(trial: Trial) -> dict[str, Any]:
    epochs = [
        {name: getattr(epoch, name) for name in epoch.__struct_fields__ if name not in OF_TIME}
        for epoch in trial.epochs
    ]
    return {"recipe": trial.recipe, "correct": trial.correct, "epochs": epochs}


def _epochs(trials: list[Trial]) -> int:
    return sum(len(trial.epochs) for trial in trials)


if __name__ == "__main__":
    main()
