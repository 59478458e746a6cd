"""How much shorter is an epoch on cached features, and how near is a step to the physical limit?

    python -m benchmarks.cache.epochs [--model NAME]... [--repeats N]
    python -m benchmarks.cache.epochs --page       # the table of README.md, from the results

Five models at their own size, each with its head trained alone and at three boundaries of
`first-n-stages`. A plain and a cached training take turns, on the CPU with one thread. A ratio is
of the two times of one turn. Then a cached step, with its features in memory, takes turns with the
limit: forward, loss and backward of the rest alone, with its input in memory.

What is done is kept: the same command goes on with the next boundary.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import time
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.cache.epochs_table import page
from benchmarks.cache.limit import rest_alone
from benchmarks.cache.one_model import sampled, specs_of
from benchmarks.facts import environment, write_whole
from benchmarks.phases.change import interleaved
from freezekit import Backbone, freeze_, load_backbone, plan
from freezekit.cache import filling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor, nn

    from freezekit import FreezePlan

RESULTS = Path(__file__).parents[1] / "results" / "cache-epochs.json"
MODELS = {
    "resnet50": "torchvision:resnet50",
    "efficientnet_b0": "timm:efficientnet_b0",
    "convnext_tiny": "timm:convnext_tiny",
    "vit_small": "timm:vit_small_patch16_224",
    "swin_tiny": "timm:swin_tiny_patch4_window7_224",
}
SIZE, SAMPLES, BATCH, CLASSES = 224, 16, 8, 10
TURN_SECONDS = 0.3
"""A turn of what is shorter repeats it so often that it takes about as long."""


class Training:
    """A model, what is trained of it, and its optimizer."""

    def __init__(self, made: nn.Module, decided: FreezePlan) -> None:
        self.model = copy.deepcopy(made)
        self.frozen = freeze_(self.model, decided)
        self.optimizer = torch.optim.SGD(self.frozen.param_groups(0.001), momentum=0.9)
        self.model.train()

    def epoch(self, loader: DataLoader[Any]) -> None:  # Any: a sample
        """Train on all batches of a loader."""
        for images, labels in loader:
            self.backward(partial(self.model, images), labels)
            self.optimizer.step()

    def backward(self, forward: Callable[[], Tensor], labels: Tensor) -> None:
        """Run a forward, the loss and a backward."""
        loss = torch.nn.functional.cross_entropy(forward(), labels)
        self.optimizer.zero_grad()
        loss.backward()


def boundary(made: nn.Module, spec: str, repeats: int) -> dict[str, Any]:  # Any: JSON
    """Return the times of one boundary."""
    decided = plan(Backbone(made), spec)
    plain, cached = Training(made, decided), Training(made, decided)
    source = torch.Generator().manual_seed(0)
    images = torch.randn(SAMPLES, 3, SIZE, SIZE, generator=source)
    data = TensorDataset(images, torch.arange(SAMPLES) % CLASSES)
    began = time.perf_counter()
    with _timed_search() as search:
        features = cached.frozen.cache(data, BATCH)
    filled = time.perf_counter() - began - search[0]
    loaders = DataLoader(data, BATCH), DataLoader(features, BATCH)
    epochs = turns(
        {"plain": lambda: plain.epoch(loaders[0]), "cached": lambda: cached.epoch(loaders[1])},
        repeats,
    )
    rows, labels = next(iter(loaders[1]))
    prefix = vars(cached.model)["forward"].prefix
    with rest_alone(plain.model, prefix, rows, tuple(images.shape[1:])) as alone:
        steps = turns(
            {
                "limit": lambda: plain.backward(alone, labels),
                "cached": lambda: cached.backward(partial(cached.model, rows), labels),
            },
            repeats,
        )
    return {
        "spec": spec,
        "cut": list(features.filled.boundary),
        "bytes_per_sample": features.filled.bytes_per_sample,
        "search_seconds": search[0],
        "fill_seconds": filled,
        "epochs": epochs,
        "steps": steps,
    }


def turns(
    actions: Mapping[str, Callable[[], object]], repeats: int
) -> list[dict[str, dict[str, float]]]:
    """Return wall and CPU seconds of each action, in turns; short ones are repeated in a turn."""
    counts = {}
    for name, action in actions.items():
        action()  # the first is slower
        began = time.perf_counter()
        action()
        counts[name] = max(1, round(TURN_SECONDS / (time.perf_counter() - began)))
    repeated = {name: partial(_repeat, action, counts[name]) for name, action in actions.items()}
    return [
        {
            name: {clock: seconds / counts[name] for clock, seconds in clocks.items()}
            for name, clocks in turn.items()
        }
        for turn in interleaved(repeated, repeats)
    ]


def _repeat(action: Callable[[], object], count: int) -> None:
    for _ in range(count):
        action()


@contextmanager
def _timed_search() -> Iterator[list[float]]:
    """Tell how long the search of the prefix takes, whose time does not grow with the data."""
    search, seconds = filling.find_prefix, []

    def timed(*given: Any) -> Any:  # Any: what it takes and returns
        began = time.perf_counter()
        found = search(*given)
        seconds.append(time.perf_counter() - began)
        return found

    filling.find_prefix = timed
    try:
        yield seconds
    finally:
        filling.find_prefix = search


@click.command(help=__doc__)
@click.option("--model", "models", multiple=True, default=tuple(MODELS), type=click.Choice(MODELS))
@click.option("--repeats", default=7, show_default=True)
@click.option("--fresh", is_flag=True, help="Start again, whatever the file holds.")
@click.option("--page", "is_page", is_flag=True, help="Print the table; measure nothing.")
@click.option("-o", "--output", default=RESULTS, type=click.Path(path_type=Path))
def main(models: tuple[str, ...], repeats: int, fresh: bool, is_page: bool, output: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {**environment(), "batch": BATCH, "samples": SAMPLES, "rows": []}
    if output.exists() and not fresh:
        found = json.loads(output.read_text(encoding="utf-8"))
    for name in () if is_page else models:
        made = load_backbone(MODELS[name], num_classes=CLASSES, image_size=SIZE)
        specs = specs_of([stage.kind for stage in Backbone(made).stages])
        for spec in ("head-only", *sampled(specs[:-1], 3)):
            if any((row["model"], row["spec"]) == (name, spec) for row in found["rows"]):
                continue
            load = os.getloadavg()[0]
            row = boundary(made, spec, repeats)
            found["rows"].append({"model": name, "load": load, **row})
            write_whole(output, found)
            click.echo(page({**found, "rows": found["rows"][-1:]}).splitlines()[-1])
            gc.collect()
    if is_page:
        click.echo(page(found))


if __name__ == "__main__":
    main()
