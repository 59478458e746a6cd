"""How many samples a second are read from a cache, beside a plain `TensorDataset` of the same rows?

    python -m benchmarks.cache.loading [-o benchmarks/results/cache-loading.json]

Rows of three sizes, in batches of 32 in a random order, by a `DataLoader` without workers and with
two. From memory, from a folder whose files are in the page cache (warm), and from a folder whose
files were dropped from it before each epoch (cold, by `posix_fadvise`). All take turns; the figures
are medians. The time begins with the first batch, so that it has no start of workers.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.facts import environment, write_whole
from freezekit import FreezePlan, freeze_

RESULTS = Path(__file__).parents[1] / "results" / "cache-loading.json"
ROW_KIB = (2, 49, 512)
MOST_BYTES = 512 * 2**20
"""Of the rows of one size; fewer samples where they are large."""

MOST_SAMPLES, BATCH = 4096, 32


class Copied(nn.Module):
    """Its frozen part returns the image, so that rows have the size of images."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Identity()
        self.head = nn.Linear(1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Take (samples, height, width)."""
        out: Tensor = self.head(self.frozen(image).mean((1, 2))[:, None])
        return out


def measure(kib: int, folder: Path, repeats: int) -> list[dict[str, Any]]:  # Any: JSON
    """Return samples a second for rows of a size, from each place, with and without workers."""
    samples = min(MOST_SAMPLES, MOST_BYTES // (kib * 1024))
    plain = TensorDataset(torch.randn(samples, kib, 256), torch.arange(samples))
    # What is open is mapped and stays in the page cache: the cold files are never open for long.
    places = {"memory": None, "disk, warm": folder / "warm", "disk, cold": folder / "cold"}
    cached = {}
    for name, place in places.items():
        frozen = freeze_(Copied(), FreezePlan([], eval_modules=()))
        cached[name] = pickle.dumps(frozen.cache(plain, BATCH, folder=place))
    rows = TensorDataset(plain.tensors[0].flatten(1), plain.tensors[1])
    opened = {name: pickle.loads(data) for name, data in cached.items()}
    sources = {"TensorDataset": rows, **opened}
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats + 1):
        for workers in (0, 2):
            for name, source in sources.items():
                dataset = source
                if name == "disk, cold":
                    dataset = pickle.loads(cached[name])
                    drop(folder / "cold")
                loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers)
                found.setdefault((name, workers), []).append(_samples_per_second(loader))
    return [
        {
            "row_kib": kib,
            "samples": samples,
            "from": name,
            "workers": workers,
            "samples_per_second": median(each[1:]),
            "each": each[1:],  # the first is a warm-up
        }
        for (name, workers), each in found.items()
    ]


def drop(folder: Path) -> None:
    """Drop the files of a folder from the page cache."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # pages that are not written yet are not dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _samples_per_second(loader: DataLoader[Any]) -> float:
    count, began = 0, 0.0
    for rows, _ in loader:
        rows.sum()  # reads all of them, as a training does
        if began:
            count += len(rows)
        else:
            began = time.perf_counter()
    return count / (time.perf_counter() - began)


@click.command(help=__doc__)
@click.option("--repeats", default=5, show_default=True)
@click.option("-o", "--output", default=RESULTS, type=click.Path(path_type=Path))
@click.option("--page", "is_page", is_flag=True, help="Print the table; measure nothing.")
def main(repeats: int, output: Path, is_page: bool) -> None:
    if is_page:
        click.echo(page(json.loads(output.read_text(encoding="utf-8"))["rows"]))
        return
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    facts = {**environment(), "batch": BATCH, "load_before": os.getloadavg()[0]}
    rows: list[dict[str, Any]] = []
    for kib in ROW_KIB:
        folder = Path(tempfile.mkdtemp(dir=output.parent))  # /tmp may be in memory
        try:
            rows += measure(kib, folder / "rows", repeats)
        finally:
            shutil.rmtree(folder)
        write_whole(output, {**facts, "load_after": os.getloadavg()[0], "rows": rows})
    click.echo(page(rows))


def page(rows: list[dict[str, Any]]) -> str:
    """Return samples a second as Markdown. Any: JSON.

    Example:
        >>> row = {"row_kib": 2, "workers": 0, "from": "memory", "samples_per_second": 1e5}
        >>> print(page([row]))
        | KiB a sample | workers | memory |
        |---:|---:|---:|
        | 2 | 0 | 100,000 |
    """
    names = list(dict.fromkeys(row["from"] for row in rows))
    found = {(r["row_kib"], r["workers"], r["from"]): r["samples_per_second"] for r in rows}
    lines = [
        f"| KiB a sample | workers | {' | '.join(names)} |",
        "|---:|---:" + "|---:" * len(names) + "|",
    ]
    for kib, workers in dict.fromkeys((row["row_kib"], row["workers"]) for row in rows):
        cells = (f"{found[kib, workers, name]:,.0f}" for name in names)
        lines.append(f"| {kib} | {workers} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
