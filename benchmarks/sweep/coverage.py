"""How often does a sweep's 95 % interval hold the truth?

    python -m benchmarks.sweep.coverage PACKAGES

PACKAGES is the folder of `benchmarks.sweep.data`. The images are 5,000 handwritten digits: 200 are
trained on, and the others stand for all images that there are. The frozen part is
EfficientNet-Lite0 with ImageNet weights, so that a training is one of a head on features, and
hundreds are cheap. Three candidates are trained with each of many seeds (of the new head, and of
the order of samples). The means over all seeds and all images are the truth. Then small sweeps are
drawn: a few seeds, a few validation images. Counted is how often the interval of each has the
truth in it:

- `freezekit`: seeds and images, crossed
- `seeds`: a t-interval over the seeds alone, as papers print "± over 3 seeds"
- `images`: a normal interval over the images of one seed, as a test set's size suggests
"""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import torch
from scipy import stats
from torch.nn import Linear, functional

from benchmarks.facts import environment, write_whole
from benchmarks.sweep import data, lite0
from freezekit.sweep.intervals import over_seeds_and_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Interval = tuple[float, float]

FILE = Path(__file__).parents[1] / "results" / "sweep-coverage.json"
SIZE, TRAINED_PER_CLASS, SEEDS = 64, 20, 300
BATCH, EPOCHS = 32, 10
CANDIDATES = {"rate 3e-3": (3e-3, 1280), "rate 1e-3": (1e-3, 1280), "half of features": (3e-3, 640)}
"""Learning rate, and how many features the head sees."""
PAIRS = ("rate 3e-3", "rate 1e-3"), ("rate 3e-3", "half of features")
DRAWS, SEED_COUNTS, IMAGE_COUNTS = 1000, (2, 3, 5, 10), (100, 400)


@click.command(help=__doc__)
@click.argument("packages", type=click.Path(path_type=Path, exists=True))
def main(packages: Path) -> None:
    torch.set_num_threads(1)
    features, labels = _features(packages)
    train, rest = _divided(labels)
    right = {
        name: np.stack(
            [
                _trained(features[:, :width], labels, train, rest, rate, seed)
                for seed in range(SEEDS)
            ]
        )
        for name, (rate, width) in CANDIDATES.items()
    }
    rows = []
    for first, second in PAIRS:
        differences = right[first].astype(float) - right[second]
        for seeds, images in product(SEED_COUNTS, IMAGE_COUNTS):
            rows.append({"pair": (first, second), **_covered(differences, seeds, images)})
            click.echo(json.dumps(rows[-1]))
    accuracies = {name: float(found.mean()) for name, found in right.items()}
    result = {"env": environment(), "accuracies": accuracies, "draws": DRAWS, "rows": rows}
    write_whole(FILE, result)


def _features(packages: Path) -> tuple[Tensor, Tensor]:
    model = lite0.build().eval()
    found, labels = [], []
    with torch.no_grad():
        for kind, _, load in data.digits(packages):
            image = load().convert("RGB").resize((SIZE, SIZE))
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
            found.append(model.forward_head(model.forward_features(pixels), pre_logits=True))
            labels.append(int(kind))
    return torch.cat(found), torch.tensor(labels)


def _divided(labels: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    parts = [order[labels[order] == kind] for kind in range(10)]
    train = torch.cat([part[:TRAINED_PER_CLASS] for part in parts])
    return train, torch.cat([part[TRAINED_PER_CLASS:] for part in parts])


def _trained(
    features: Tensor, labels: Tensor, train: Tensor, rest: Tensor, rate: float, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return of each image of the rest whether a head that was trained is right."""
    torch.manual_seed(seed)
    head = Linear(features.shape[1], 10)
    optimizer = torch.optim.AdamW(head.parameters(), rate)
    for _ in range(EPOCHS):
        for batch in train[torch.randperm(len(train))].split(BATCH):
            loss = functional.cross_entropy(head(features[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return (head(features[rest]).argmax(1) == labels[rest]).numpy()  # type: ignore[no-any-return]  # numpy


def _covered(differences: np.ndarray, seeds: int, images: int) -> dict[str, object]:  # type: ignore[type-arg]  # of floats
    """Return how often each interval holds the mean of all, and how wide it is in the median."""
    truth = float(differences.mean())
    draw = random.Random(0)
    held: dict[str, list[bool]] = {name: [] for name in WAYS}
    widths: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(DRAWS):
        few = draw.sample(range(differences.shape[0]), seeds)
        some = draw.sample(range(differences.shape[1]), images)
        seen = differences[np.ix_(few, some)]
        for name, way in WAYS.items():
            low, high = way(seen)
            held[name].append(low <= truth <= high)
            widths[name].append(high - low)
    return {
        "seeds": seeds,
        "images": images,
        "truth": truth,
        "coverage": {name: float(np.mean(found)) for name, found in held.items()},
        "width": {name: float(np.median(found)) for name, found in widths.items()},
    }


def _of_both(seen: np.ndarray) -> Interval:  # type: ignore[type-arg]  # of floats
    found = over_seeds_and_images(seen, (1, -1))
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def _of_seeds(seen: np.ndarray) -> Interval:  # type: ignore[type-arg]  # of floats
    return _t_interval(seen.mean(axis=1))


def _of_images(seen: np.ndarray) -> Interval:  # type: ignore[type-arg]  # of floats
    return _t_interval(seen[0])


def _t_interval(values: np.ndarray) -> Interval:  # type: ignore[type-arg]  # of floats
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean() - half), float(values.mean() + half)


WAYS: dict[str, Callable[[np.ndarray], Interval]] = {  # type: ignore[type-arg]  # of floats
    "freezekit": _of_both,
    "seeds": _of_seeds,
    "images": _of_images,
}

if __name__ == "__main__":
    main()
