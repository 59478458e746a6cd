"""A process of `matrix.py`: one training, or one rank of it.

python -m benchmarks.trainers.one TRAINER VARIANT FOLDER [--resumes] [--by-hand]
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import distributed

from benchmarks.trainers import by_hand
from benchmarks.trainers.task import VARIANTS, Task, Trainer, dataset, model, reference
from benchmarks.trainers.watch import Watch

if TYPE_CHECKING:
    from torch import Tensor, nn


def right(net: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Return how many photographs are classified right."""
    was = [(module, module.training) for module in net.modules()]
    net.eval()
    with torch.no_grad():
        found = int((net(images).argmax(1) == labels).sum())
    for module, mode in was:
        module.training = mode
    return found


def main(name: str, variant: str, folder: Path, *, resumes: bool, is_reference: bool) -> None:
    """Train, and write what was found and the state of each rank."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    trainer = cast("Trainer", importlib.import_module(f"benchmarks.trainers.{name}"))
    task = Task(folder=folder, **VARIANTS[variant], split=trainer.SPLIT, rates=trainer.RATES)
    task = replace(task, resumes=resumes, killed_at=None if resumes else task.killed_at)
    train = trainer.train
    if is_reference:
        task, train = reference(task), by_hand.train
    given = torch.load(folder.parent / "images.pt", weights_only=True)
    net = model()
    if resumes:
        torch.manual_seed(9)  # what is loaded must not be there before
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter)
    if task.processes > 1:
        distributed.init_process_group("gloo")
    watch = Watch(task, net)
    train(task, net, dataset(given), watch)
    rank = int(os.environ.get("RANK", "0"))
    tested = given["tested"], given["tested_labels"]
    found = {"rank": rank, **watch.found(), "right": right(net, *tested), "of": len(tested[1])}
    torch.save(net.state_dict(), folder / f"state-{rank}.pth")
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


if __name__ == "__main__":
    _, trainer_name, variant_name, where, *flags = sys.argv
    main(
        trainer_name,
        variant_name,
        Path(where),
        resumes="--resumes" in flags,
        is_reference="--by-hand" in flags,
    )
