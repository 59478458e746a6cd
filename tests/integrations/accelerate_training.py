"""A small training loop with Accelerate, as docs/guides/accelerate.md has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import get_scheduler

from freezekit import freeze_
from tests.integrations.hugging_face_training import (
    BATCHES,
    EPOCHS,
    RATE,
    SIZE,
    Pictures,
    grouped,
    network,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from freezekit.schedules.followed import FollowedSchedule


def accelerated(
    begin: str,
    schedule: str,
    *,
    accumulate: int = 1,
    mixed_precision: str = "no",
    saves: Path | None = None,
    resume: Path | None = None,
    seed: int = 0,
    shuffles: bool = False,
) -> tuple[nn.Module, FollowedSchedule]:
    """Train; save the state before each step, or go on from such a state."""
    accelerator = Accelerator(
        cpu=True, gradient_accumulation_steps=accumulate, mixed_precision=mixed_precision
    )
    model = network(seed)
    frozen = freeze_(model, begin)
    optimizer = torch.optim.AdamW(grouped(frozen, schedule), lr=RATE, eps=1e-8, fused=True)
    per_epoch = -(-BATCHES // accumulate // accelerator.num_processes)
    steps = per_epoch * EPOCHS * accelerator.num_processes
    order = torch.Generator()
    prepared, optimizer, loader, rates = accelerator.prepare(
        model,
        optimizer,
        DataLoader(Pictures(), SIZE, shuffle=shuffles, generator=order),
        get_scheduler("linear", optimizer, 0, steps),
    )
    ddp = prepared if isinstance(prepared, DistributedDataParallel) else None
    run = frozen.follow(schedule, optimizer, [rates], ddp, epochs=EPOCHS, steps_per_epoch=per_epoch)
    accelerator.register_for_checkpointing(run)
    skipped = 0
    if resume is not None:
        accelerator.load_state(resume)
        skipped = run.progress.step_in_epoch * accumulate
    for epoch in range(run.progress.epoch, EPOCHS):
        order.manual_seed(epoch)
        model.train()
        for i, batch in enumerate(accelerator.skip_first_batches(loader, skipped)):
            if i % accumulate == 0:
                if saves is not None:
                    accelerator.save_state(saves / str(run.progress.step))
                torch.manual_seed(run.progress.step)
            with accelerator.accumulate(prepared):
                accelerator.backward(prepared(**batch).loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                rates.step()
                optimizer.zero_grad()
            run.step()
        skipped = 0
        run.epoch()
    return model, run
