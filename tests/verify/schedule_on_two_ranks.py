"""One rank of two: `schedule_on_two_ranks.py RANK FOLDER CASE`, run by `test_schedule_ranks.py`."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from freezekit import freeze_
from freezekit.schedules import change
from freezekit.testing import MODELS


def main(rank: int, folder: Path, case: str) -> None:
    if case == "not rebuilt":  # as where a wrapped model is thawed by hand
        change.rebuild_ = lambda ddp: None
    distributed.init_process_group(
        "gloo",
        init_method=(folder / f"{case}.store").as_uri(),
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    torch.manual_seed(0)
    frozen = freeze_(MODELS["residual"](), "head-only")
    torch.manual_seed(rank)
    images = torch.rand(2, 3, 32, 32)  # others on each rank
    found = frozen.verify_schedule("head-only then full at 1ep", images, epochs=2)
    (folder / f"{case}-{rank}.json").write_text(found.to_json())
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
