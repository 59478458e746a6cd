"""A loop without freezekit: flags and modes set by hand, and the model wrapped anew for each phase.

It is told the names of what is frozen, and nothing else. All other trainings must have its bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from benchmarks.trainers import task as tasks

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from benchmarks.trainers.task import Task
    from benchmarks.trainers.watch import Watch

SPLIT, RATES = "interleaved", "torch"


def train(task: Task, net: nn.Module, data: Dataset[Any], watch: Watch) -> None:
    rank = distributed.get_rank() if task.processes > 1 else 0
    optimizer = tasks.optimizer(net.parameters())
    scheduler = tasks.rates(task, optimizer)
    step, names, wrapped = 0, (frozenset[str](), frozenset[str]()), net
    for _ in range(tasks.EPOCHS):
        for images, labels in tasks.batches(task, data, rank):
            expected = tasks.held(tasks.spec_at(task, step))
            if expected != names:
                names = expected
                for name, parameter in net.named_parameters():
                    parameter.requires_grad_(name not in names[0])
                if task.processes > 1:
                    wrapped = DistributedDataParallel(net)
            wrapped.train()
            for name in names[1]:
                net.get_submodule(name).eval()
            watch.before()
            torch.manual_seed(step)
            loss = functional.cross_entropy(wrapped(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            tasks.advance(scheduler, step)
            watch.after(step)
