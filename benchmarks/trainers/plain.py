"""A plain loop with freezekit, as docs/schedules.md and docs/cache.md write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from benchmarks.trainers import task as tasks
from freezekit import freeze_

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from benchmarks.trainers.task import Task
    from benchmarks.trainers.watch import Watch

SPLIT, RATES = "interleaved", "torch"


def train(task: Task, net: nn.Module, data: Dataset[Any], watch: Watch) -> None:
    rank = distributed.get_rank() if task.processes > 1 else 0
    follows = task.freeze == tasks.SCHEDULE
    frozen = freeze_(net, "full" if follows else task.freeze, lean=task.lean)
    wrapped = DistributedDataParallel(net) if task.processes > 1 else net
    given = frozen.cache(data, tasks.BATCH) if task.cached else data
    groups = frozen.param_groups(
        tasks.RATE, tasks.DECAY, all_phases=task.freeze if follows else False
    )
    for group in groups:
        group["weight_decay"] = tasks.DECAY  # of norms and biases too, as in the other loops
    optimizer = tasks.optimizer(groups)
    scheduler = tasks.rates(task, optimizer)
    run = None
    if follows:
        ddp = wrapped if isinstance(wrapped, DistributedDataParallel) else None
        run = frozen.follow(
            task.freeze,
            optimizer,
            [scheduler],
            ddp,
            epochs=tasks.EPOCHS,
            steps_per_epoch=tasks.STEPS_PER_EPOCH,
        )
    parts = {"model": net, "optimizer": optimizer, "rates": scheduler}
    parts |= {} if run is None else {"run": run}
    step = 0
    if task.resumes:
        saved = max(task.folder.glob("*.pt"))
        step = int(saved.stem)
        for name, state in torch.load(saved, weights_only=True).items():
            parts[name].load_state_dict(state)
    for epoch in range(step // tasks.STEPS_PER_EPOCH, tasks.EPOCHS):
        net.train()
        for images, labels in tasks.batches(task, given, rank, step % tasks.STEPS_PER_EPOCH):
            watch.before()
            torch.manual_seed(step)
            loss = functional.cross_entropy(wrapped(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            tasks.advance(scheduler, step)
            if run is not None:
                run.step()
                if step == (epoch + 1) * tasks.STEPS_PER_EPOCH:
                    run.epoch({"loss": loss.item()})
            if step % tasks.SAVED_EVERY == 0 and not rank:
                state = {name: part.state_dict() for name, part in parts.items()}
                torch.save(state, task.folder / f"{step:03}.pt")
            watch.after(step)
