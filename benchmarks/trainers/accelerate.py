"""A loop with Accelerate: `prepare`, `backward` and `save_state` are its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from benchmarks.trainers import task as tasks
from freezekit import freeze_

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from benchmarks.trainers.task import Task
    from benchmarks.trainers.watch import Watch

SPLIT, RATES = "blocks", "torch"


def train(task: Task, net: nn.Module, data: Dataset[Any], watch: Watch) -> None:
    accelerator = Accelerator(cpu=True)
    schedule = task.freeze if task.freeze == tasks.SCHEDULE else None
    frozen = freeze_(net, "full" if schedule else task.freeze, lean=task.lean)
    given = frozen.cache(data, tasks.BATCH) if task.cached else data
    groups = frozen.param_groups(tasks.RATE, tasks.DECAY, all_phases=schedule or False)
    for group in groups:
        group["weight_decay"] = tasks.DECAY  # of norms and biases too, as in the other loops
    optimizer = tasks.optimizer(groups)
    scheduler = tasks.rates(task, optimizer)  # prepared, it would step once for each process
    loader = DataLoader(given, tasks.BATCH // task.processes)
    prepared, optimizer, loader = accelerator.prepare(net, optimizer, loader)
    accelerator.register_for_checkpointing(scheduler)
    run = None
    if schedule:
        run = frozen.follow(
            schedule,
            optimizer,
            [scheduler],
            prepared if isinstance(prepared, DistributedDataParallel) else None,
            epochs=tasks.EPOCHS,
            steps_per_epoch=tasks.STEPS_PER_EPOCH,
        )
        accelerator.register_for_checkpointing(run)
    step = 0
    if task.resumes:
        saved = max(path for path in task.folder.iterdir() if path.is_dir())
        step = int(saved.name)
        accelerator.load_state(str(saved))
    for epoch in range(step // tasks.STEPS_PER_EPOCH, tasks.EPOCHS):
        net.train()
        for images, labels in accelerator.skip_first_batches(loader, step % tasks.STEPS_PER_EPOCH):
            watch.before()
            torch.manual_seed(step)
            loss = functional.cross_entropy(prepared(images), labels)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            step += 1
            scheduler.step()
            if run is not None:
                run.step()
                if step == (epoch + 1) * tasks.STEPS_PER_EPOCH:
                    run.epoch({"loss": loss.item()})
            if step % tasks.SAVED_EVERY == 0:
                accelerator.save_state(str(task.folder / f"{step:03}"))
            watch.after(step)
