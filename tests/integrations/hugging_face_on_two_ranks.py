"""A script for ranks: Trainer trains on two ranks, is resumed, and reads features.

Run by `test_hugging_face_ranks.py`, which reads what each situation returns.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, get_scheduler

from freezekit import freeze_
from freezekit.integrations.hugging_face import FreezeCallback
from tests.integrations.accelerate_training import accelerated
from tests.integrations.hugging_face_training import (
    BATCHES,
    EPOCHS,
    IMAGES,
    LABELS,
    RATE,
    SIZE,
    Pictures,
    digest,
    fit,
    grouped,
    network,
)

SCHEDULE = "first-n-stages:n=3 then first-n-stages:n=1 at 3step then full at 2ep"
BY_EPOCH = "first-n-stages:n=3 then first-n-stages:n=1 at 1ep"
RANKS = 2
PER_EPOCH = BATCHES // RANKS


def plain(_: Path) -> str:
    """The same, without Trainer: rank 1 takes each second batch."""
    model = network()
    frozen = freeze_(model, "first-n-stages:n=3")
    ddp = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(grouped(frozen, SCHEDULE), lr=RATE, eps=1e-8, fused=True)
    rates = get_scheduler("linear", optimizer, 0, PER_EPOCH * EPOCHS)
    run = frozen.follow(SCHEDULE, optimizer, [rates], ddp, epochs=EPOCHS, steps_per_epoch=PER_EPOCH)
    for _ in range(EPOCHS):
        for i in range(PER_EPOCH):
            torch.manual_seed(run.progress.step)
            model.train()
            first = (i * RANKS + distributed.get_rank()) * SIZE
            part = slice(first, first + SIZE)
            ddp(pixel_values=IMAGES[part], labels=LABELS[part]).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            rates.step()
            model.zero_grad()
            run.step()
        run.epoch()
    return digest(model)


def accelerated_(_: Path) -> str:
    """The same, with Accelerate."""
    return digest(accelerated("first-n-stages:n=3", SCHEDULE)[0])


def frozen_after_prepare(_: Path) -> str:
    accelerator = Accelerator(cpu=True)
    ddp = accelerator.prepare(network())
    frozen = freeze_(accelerator.unwrap_model(ddp), "full")
    frozen.change_("first-n-stages:n=3", ddp=ddp)
    optimizer = torch.optim.SGD(frozen.param_groups(0.1))
    for _ in range(2):
        mine = slice(distributed.get_rank(), None, RANKS)
        ddp.train()(pixel_values=IMAGES[mine], labels=LABELS[mine]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return digest(frozen.backbone.model)


def whole(folder: Path) -> str:
    model, trainer = fit(FreezeCallback(SCHEDULE), folder, save_strategy="steps", save_steps=1)
    assert isinstance(trainer.model_wrapped, DistributedDataParallel)
    return digest(model)


def resumed(folder: Path) -> list[str]:
    found = []
    for step in (1, 4):
        model, _ = fit(
            FreezeCallback(SCHEDULE),
            folder / "again",
            model=network(7),
            resume=folder / f"checkpoint-{step}",
        )
        found.append(digest(model))
    return found


def on_images(folder: Path) -> str:
    return digest(fit(FreezeCallback(BY_EPOCH), folder, of=Trainer)[0])


def cached(folder: Path) -> str:
    callback = FreezeCallback(BY_EPOCH)
    data = callback.features_of(Pictures())
    return digest(fit(callback, folder, data=data, of=Trainer)[0])


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    scratch = folder.parent / f"{folder.name}-scratch"
    found: dict[str, Any] = {}
    for each in (whole, resumed, on_images, cached, plain, accelerated_, frozen_after_prepare):
        found[each.__name__] = each(scratch)
    for name, value in found.items():
        (folder / f"{name}-{distributed.get_rank()}.json").write_text(json.dumps(value))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
