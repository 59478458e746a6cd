"""A script that fills a cache in a folder: slowly, or up to a size of file that the system allows.

Run by `test_folder.py`.
"""

from __future__ import annotations

import resource
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from freezekit import CacheError, freeze_
from freezekit.cache import rows
from tests.cache.test_cached_training import BATCH, SAMPLES, Branches, data

if TYPE_CHECKING:
    from torch import Tensor


class Slow(Dataset[Any]):
    """It gives the first two batches, then it waits. Sample 9 is not looked at before."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index == 9:
            time.sleep(60)
        return data()[index % SAMPLES]


def main(what: str, folder: Path) -> None:
    torch.manual_seed(0)
    frozen = freeze_(Branches(), "head-only")
    rows.UNIT_BYTES = 1  # one batch a file
    if what == "limited":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write that is too large is an error
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # a batch has 131 kB
    try:
        frozen.cache(Slow() if what == "slow" else data(), BATCH, folder=folder)
    except CacheError as error:
        print(error)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
