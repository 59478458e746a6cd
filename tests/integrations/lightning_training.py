"""A small Lightning training, and the plain loop that must have the same bits."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import timm
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from freezekit import freeze_

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from freezekit.handle.frozen import Frozen

BATCHES, EPOCHS, SIZE = 4, 3, 4
IMAGES = torch.rand(BATCHES * SIZE, 3, 32, 32, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(BATCHES * SIZE) % 3
PICKED = TensorDataset(IMAGES, LABELS)

Optimizers = "Callable[[Any], torch.optim.Optimizer]"


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("test_resnet", num_classes=3, drop_rate=0.2)


def sgd(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.01)


def steps(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, BATCHES * EPOCHS, eta_min=0.001)


class Lit(LightningModule):
    """Batches come from their number in the epoch: a resume needs no loader with a state."""

    def __init__(
        self,
        optimizer: Callable[[Any], torch.optim.Optimizer] = sgd,
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        groups: Callable[[], Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = network(seed)
        self.made, self.attached, self.groups = optimizer, scheduler, groups
        self.losses: list[float] = []

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.model(images)
        return found

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        torch.manual_seed(self.trainer.current_epoch * BATCHES + batch_idx)  # of dropout
        loss = functional.cross_entropy(self(images), labels)
        self.log("loss", loss, on_epoch=True, on_step=False)
        self.losses.append(loss.item())
        return loss

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if not self.trainer.training or self.trainer.sanity_checking:
            return batch
        first = (self.trainer.fit_loop.epoch_loop.batch_idx + 1) * SIZE
        return IMAGES[first : first + SIZE], LABELS[first : first + SIZE]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        self.log("val_loss", functional.cross_entropy(self(images), labels))

    def configure_optimizers(self) -> Any:
        optimizer = self.made(self.parameters() if self.groups is None else self.groups())
        if self.attached is None:
            return optimizer
        return [optimizer], [{"scheduler": self.attached(optimizer), "interval": "step"}]


class Saves(Checkpoint):
    """Writes a checkpoint after each batch that made a step, each validation and each epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.step = 0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step > self.step:
            self.step = trainer.global_step
            trainer.save_checkpoint(self.folder / f"{self.step:02} batch.ckpt")

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            trainer.save_checkpoint(self.folder / f"{self.step:02} validation.ckpt")

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{self.step:02} epoch.ckpt")


def loader(shuffle: bool = False) -> DataLoader[Any]:
    return DataLoader(PICKED, SIZE, shuffle=shuffle)


def trainer(*callbacks: Any, of: type[Trainer] = Trainer, **options: Any) -> Trainer:
    defaults = {
        "max_epochs": EPOCHS,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return of(callbacks=list(callbacks), **defaults | options)


def plain(
    begin: str,
    schedule: str | None = None,
    *,
    optimizer: Callable[[Any], torch.optim.Optimizer] = sgd,
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    accumulate: int = 1,
    lean: bool = False,
    validates: bool = False,
    clip: float | None = None,
) -> tuple[nn.Module, Frozen, list[float]]:
    """Train as docs/guides/schedules.md does it, without Lightning."""
    model = network()
    frozen = freeze_(model, begin, lean=lean)
    made = optimizer(grouped(frozen, optimizer, schedule))
    attached = [] if scheduler is None else [scheduler(made)]
    run = None
    if schedule is not None:
        per_epoch = math.ceil(BATCHES / accumulate)
        run = frozen.follow(schedule, made, attached, epochs=EPOCHS, steps_per_epoch=per_epoch)
    losses = []
    for epoch in range(EPOCHS):
        model.train()
        for i in range(BATCHES):
            torch.manual_seed(epoch * BATCHES + i)
            images, labels = IMAGES[i * SIZE : (i + 1) * SIZE], LABELS[i * SIZE : (i + 1) * SIZE]
            loss = functional.cross_entropy(model(images), labels)
            losses.append(loss.item())
            if i % accumulate == 0:
                made.zero_grad()
            (loss / accumulate).backward()
            if (i + 1) % accumulate == 0 or i == BATCHES - 1:
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                made.step()
                for each in attached:
                    each.step()
            if run is not None:
                run.step()
        metrics = {"loss": sum(losses[-BATCHES:]) / BATCHES}
        if validates:
            metrics["val_loss"] = validated(model)
        if run is not None:
            run.epoch(metrics)
    return model, frozen, losses


def grouped(frozen: Frozen, optimizer: Any, schedule: str | None) -> list[dict[str, Any]]:
    """Return groups with the rate and the weight decay of an optimizer, on all parameters."""
    known = optimizer([nn.Parameter(torch.ones(1))]).param_groups[0]
    groups = frozen.param_groups(
        known["lr"], known["weight_decay"], all_phases=schedule if schedule else False
    )
    for group in groups:
        group["weight_decay"] = known["weight_decay"]
    return groups


def validated(model: nn.Module) -> float:
    model.eval()
    total = 0.0
    with torch.no_grad():
        for i in range(BATCHES):
            part = slice(i * SIZE, (i + 1) * SIZE)
            total += functional.cross_entropy(model(IMAGES[part]), LABELS[part]).item()
    model.train()
    return total / BATCHES


def equal(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def quietly() -> None:
    """Ignore what Lightning says of every small training on a CPU."""
    for text in IGNORED:
        warnings.filterwarnings("ignore", text)


IGNORED: Sequence[str] = (
    "Found .* in eval mode",
    "The '.*' does not have many workers",
    "`isinstance\\(treespec",
    "You're resuming from a checkpoint that ended before the epoch",
    "The number of training batches",
    "Be aware that when using .ckpt_path., callbacks",
    "The dirpath has changed",
    "You defined a .validation_step. but have no",
)
