"""A script for ranks: Lightning trains on two ranks, is resumed, and reads features.

Run by `test_lightning_ranks.py`, which reads what each situation returns.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from torch import distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from freezekit import freeze_
from freezekit.integrations.lightning import FreezeCallback
from tests.integrations.lightning_training import (
    EPOCHS,
    PICKED,
    SIZE,
    Lit,
    Saves,
    loader,
    network,
    sgd,
    trainer,
)

SCHEDULE = "first-n-stages:n=3 then first-n-stages:n=1 at 3step then full at 2ep"
BY_EPOCH = "first-n-stages:n=3 then first-n-stages:n=1 at 1ep"


class Direct(Lit):
    """Takes the batches of its loader."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch

    def on_train_start(self) -> None:
        assert isinstance(self.trainer.strategy.model, DistributedDataParallel)


def digest(model: nn.Module) -> str:
    values = [value.detach().numpy().tobytes() for value in model.parameters()]
    return hashlib.sha256(b"".join(values)).hexdigest()


def fit(schedule: str, *callbacks: Any, cache: bool = False, **options: Any) -> str:
    lit, callback = Direct(seed=options.pop("seed", 0)), FreezeCallback(schedule, cache=cache)
    given = trainer(
        callback, *callbacks, devices=2, strategy="ddp", enable_checkpointing=bool(callbacks)
    )
    given.fit(lit, loader(), loader(), **options)
    return digest(lit.model)


def plain(_: Path) -> str:
    """The same, without Lightning."""
    model = network()
    frozen = freeze_(model, "first-n-stages:n=3")
    ddp = DistributedDataParallel(model)
    groups = frozen.param_groups(0.05, all_phases=SCHEDULE)
    optimizer = sgd([{k: v for k, v in g.items() if k != "weight_decay"} for g in groups])
    sampler = DistributedSampler(PICKED, shuffle=True)  # as Lightning makes it for each loader
    run = frozen.follow(SCHEDULE, optimizer, ddp=ddp, epochs=EPOCHS, steps_per_epoch=2)
    for epoch in range(EPOCHS):
        model.train()
        sampler.set_epoch(epoch)
        for i, (images, labels) in enumerate(DataLoader(PICKED, SIZE, sampler=sampler)):
            torch.manual_seed(epoch * 4 + i)
            optimizer.zero_grad()
            functional.cross_entropy(ddp(images), labels).backward()
            optimizer.step()
            run.step()
        run.epoch()
    return digest(model)


def whole(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    return fit(SCHEDULE, Saves(folder))


def resumed(folder: Path) -> list[str]:
    names = "02 epoch.ckpt", "04 batch.ckpt"  # its samplers begin an epoch anew
    torch.manual_seed(3)
    return [fit(SCHEDULE, seed=7, ckpt_path=str(folder / name)) for name in names]


def on_images(_: Path) -> str:
    return fit(BY_EPOCH)


def cached(_: Path) -> str:
    return fit(BY_EPOCH, cache=True)


class TwoParts(Direct):
    """What BackboneFinetuning takes: a backbone, and an optimizer of the head."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.backbone = self.model.get_classifier(), self.model
        self.model.fc = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.backbone(images))
        return found

    def configure_optimizers(self) -> Any:
        return sgd(self.head.parameters())


def backbone_finetuning(_: Path) -> dict[str, Any]:
    """What the callback of Lightning does to what it froze, and to ranks once it thaws."""
    found = {}
    for epochs in (1, EPOCHS):
        lit = TwoParts()
        before = {name: value.clone() for name, value in lit.backbone.state_dict().items()}
        callback = BackboneFinetuning(unfreeze_backbone_at_epoch=1)
        trainer(callback, devices=2, strategy="ddp", max_epochs=epochs).fit(lit, loader())
        after = lit.backbone.state_dict()
        moved = [name for name, value in before.items() if not torch.equal(value, after[name])]
        norms = [each for each in lit.backbone.modules() if isinstance(each, nn.BatchNorm2d)]
        found[str(epochs)] = {
            "moved": sorted({name.rpartition(".")[2] for name in moved}),
            "have gradients": all(norm.weight.grad is not None for norm in norms),
            "in train mode": all(module.training for module in lit.backbone.modules()),
            "weights": digest(lit.backbone),
        }
    return found


ALL = whole, resumed, on_images, cached, plain, backbone_finetuning


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    scratch = folder.parent / f"{folder.name}-scratch"
    found = {each.__name__: each(scratch) for each in ALL}
    for name, value in found.items():
        (folder / f"{name}-{distributed.get_rank()}.json").write_text(json.dumps(value))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
