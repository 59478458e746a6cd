"""Lightning, with `FreezeCallback`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, DistributedSampler

from benchmarks.trainers import task as tasks
from freezekit.integrations.lightning import FreezeCallback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.data import Dataset

    from benchmarks.trainers.task import Task
    from benchmarks.trainers.watch import Watch

SPLIT, RATES = "interleaved", "torch"


class KeepsItsPlace(DataLoader[Any]):  # Any: a sample
    """A loader with a state, which Lightning asks for to go on in the middle of an epoch."""

    given, first = 0, 0

    def __iter__(self) -> Iterator[Any]:
        first, self.first = self.first, 0
        for number, batch in enumerate(super().__iter__()):
            if number >= first:
                self.given = number + 1
                yield batch
        self.given = 0

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of the epoch were given."""
        return {"given": self.given % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Leave these out at the next time."""
        self.first = state["given"]


class Classifier(LightningModule):
    """The model, with its loss and its optimizer."""

    def __init__(self, task: Task, net: nn.Module) -> None:
        super().__init__()
        self.task, self.model = task, net

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Return the loss."""
        images, labels = batch
        torch.manual_seed(self.global_step)
        return functional.cross_entropy(self.model(images), labels)

    def configure_optimizers(self) -> Any:  # Any: as Lightning has it
        """Return the optimizer and its cosine."""
        optimizer = tasks.optimizer(self.parameters())
        scheduler = {"scheduler": tasks.rates(self.task, optimizer), "interval": "step"}
        return [optimizer], [scheduler]


class Look(Callback):
    """Shows each step to a watch."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_train_batch_start(self, *_: Any) -> None:  # Any: not looked at
        """Look before it."""
        self.watch.before()

    def on_train_batch_end(self, trainer: LightningTrainer, *_: Any) -> None:
        """Look after it."""
        self.watch.after(trainer.global_step)


def train(task: Task, net: nn.Module, data: Dataset[Any], watch: Watch) -> None:
    saves = ModelCheckpoint(
        task.folder, "{step:03}", every_n_train_steps=tasks.SAVED_EVERY, save_top_k=-1
    )
    trainer = LightningTrainer(
        max_epochs=tasks.EPOCHS,
        callbacks=[
            FreezeCallback(task.freeze, lean=task.lean, cache=task.cached),
            Look(watch),
            saves,
        ],
        accelerator="cpu",
        devices=task.processes,
        strategy="ddp" if task.processes > 1 else "auto",
        use_distributed_sampler=False,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # Under DistributedDataParallel, Lightning's own sampler shuffles, whatever the loader does.
    sampler = DistributedSampler(data, shuffle=False) if task.processes > 1 else None
    loader = KeepsItsPlace(data, tasks.BATCH // task.processes, sampler=sampler)
    last = max(map(str, task.folder.glob("*.ckpt"))) if task.resumes else None
    trainer.fit(Classifier(task, net), loader, ckpt_path=last)
