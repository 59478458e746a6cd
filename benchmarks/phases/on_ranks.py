"""A script for torchrun, which `ranks.py` starts: schedules of freezekit on several ranks.

torchrun --nproc-per-node 2 -m benchmarks.phases.on_ranks OUTPUT
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections import OrderedDict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from benchmarks.phases.replicas import Replicas
from benchmarks.phases.training import SCHEDULES, Net, batch
from freezekit import freeze_

PER_PHASE, EPOCHS, WIDTH, LR = 10, 6, 32, 0.02
"""An epoch has as many steps as a phase of a schedule that is counted in epochs."""


def follow(schedule: str, *, lean: bool) -> dict[str, Any]:  # Any: JSON
    """Train as a schedule says; return the phases, and what the ranks were in each."""
    torch.manual_seed(0)
    model = Net(WIDTH)
    frozen = freeze_(model, "full", lean=lean)
    wrapper = DistributedDataParallel(model)
    groups = frozen.param_groups(LR, 1e-4, all_phases=schedule)
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    rank = distributed.get_rank()
    run = frozen.follow(
        schedule,
        optimizer,
        ddp=wrapper,
        epochs=EPOCHS,
        steps_per_epoch=PER_PHASE,
        sample=batch(10_000)[0],
    )
    replicas = Replicas(model)
    for _ in range(EPOCHS):
        losses = []
        for step in range(PER_PHASE):
            losses.append(train_step(replicas, model, wrapper, optimizer, batch(step, rank)))
            run.step()
        run.epoch({"loss": sum(losses) / len(losses)})
    return {"trainer": "freezekit", "schedule": schedule, "lean": lean, **result(replicas)}


def by_hand(*, finds_unused: bool) -> dict[str, Any]:  # Any: JSON
    """Freeze, wrap, then thaw by the flags alone, as trainers do."""
    torch.manual_seed(0)
    model = Net(WIDTH)
    stages = OrderedDict(model.named_children())
    for name in ("stem", "s1", "s2", "s3"):
        stages[name].requires_grad_(False)
    wrapper = DistributedDataParallel(model, find_unused_parameters=finds_unused)
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=0.9)
    replicas, rank = Replicas(model), distributed.get_rank()
    for thawed in ((), ("s2", "s3"), ("stem", "s1")):
        for name in thawed:
            stages[name].requires_grad_(True)
        for step in range(PER_PHASE):
            train_step(replicas, model, wrapper, optimizer, batch(step, rank))
    return {"trainer": "flags by hand", "finds_unused": finds_unused, **result(replicas)}


def train_step(
    replicas: Replicas,
    model: nn.Module,
    wrapper: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: tuple[torch.Tensor, torch.Tensor],
) -> float:
    """Make one step, and look at the replicas; return the loss."""
    images, labels = data
    model.train()
    replicas.before_step()
    loss = functional.cross_entropy(wrapper(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    replicas.after_step()
    return loss.item()


def result(replicas: Replicas) -> dict[str, Any]:  # Any: JSON
    """Return what all trainers report alike."""
    weights = hashlib.sha256()
    for parameter in replicas.model.parameters():
        weights.update(parameter.detach().numpy().tobytes())
    return {
        "phases": replicas.lines(),
        "weights": weights.hexdigest()[:12],
    }


def main(output: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rows = [by_hand(finds_unused=False), by_hand(finds_unused=True)]
    for schedule, lean in product(SCHEDULES.values(), (False, True)):
        rows.append(follow(schedule, lean=lean))
        if not distributed.get_rank():
            output.write_text(json.dumps(rows))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
