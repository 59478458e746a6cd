"""How many samples a second are read from a cache, beside a plain `TensorDataset` of the same rows?

    python -m benchmarks.cache.loading [-o benchmarks/results/cache-loading.json]

Rows of three sizes, in batches of 32 in a random order, by a `DataLoader` without workers and with
two. From memory, from a folder whose files are in the page cache (warm), and from a folder whose
files were dropped from it before each epoch (cold, by `posix_fadvise`). All take turns; the figures
are medians. The times with workers include their start, as in each epoch of a training.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.facts import environment, write_whole
from freezekit import FreezePlan, freeze_

if TYPE_CHECKING:
    from torch.utils.data import Dataset

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
        out: Tensor = self.head(self.frozen(image).mean((1, 2))[:, None])
        return out


def measure(kib: int, folder: Path, repeats: int) -> list[dict[str, Any]]:  # Any: JSON
    """Return samples a second for rows of a size, from each place, with and without workers."""
    samples = min(MOST_SAMPLES, MOST_BYTES // (kib * 1024))
    plain = TensorDataset(torch.randn(samples, kib, 256), torch.arange(samples))
    kept = []
    for where in (None, folder):
        model = Copied()
        frozen = freeze_(model, FreezePlan([], eval_modules=()))
        kept.append(frozen.cache(plain, BATCH, folder=where))
    memory, disk = kept
    rows = TensorDataset(plain.tensors[0].flatten(1), plain.tensors[1])
    sources: dict[str, tuple[Dataset[Any], bool]] = {
        "TensorDataset": (rows, False),
        "memory": (memory, False),
        "disk, warm": (disk, False),
        "disk, cold": (disk, True),
    }
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(repeats + 1):
        for workers in (0, 2):
            for name, (dataset, is_cold) in sources.items():
                if is_cold:
                    drop(folder)
                loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers)
                seconds = _epoch(loader)
                found.setdefault((name, workers), []).append(samples / seconds)
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
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())  # pages that are not written yet are not dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _epoch(loader: DataLoader[Any]) -> float:
    began = time.perf_counter()
    for rows, _ in loader:
        rows.sum()  # reads all of them, as a training does
    return time.perf_counter() - began
