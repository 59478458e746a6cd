"""The trainings of `overhead.py`: a small model, a plain loop, and the trainers."""

from __future__ import annotations

import time
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.trainers.overhead import Switch

SIZE, SKIPPED, PAIRS = 4, 50, 2000
STEPS = SKIPPED + 2 * PAIRS + 10
SPEC = "head-only"
FREEZES = {
    "control": None,
    "empty": None,
    "spec": SPEC,
    "schedule": f"{SPEC} then full at {STEPS - 2}step",
}
"""What the callback is given; in the first two it is none of freezekit's. The schedule changes
nothing while steps are counted."""


class Net(nn.Module):
    """Two convolutions with batch norm, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        parts = (nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2))
        self.body = nn.Sequential(*parts, nn.BatchNorm2d(8), nn.ReLU())
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape (batch, classes)."""
        return self.fc(self.pool(self.body(images)).flatten(1))  # type: ignore[no-any-return]


class Plain:
    """A plain loop, a step at a time."""

    def __init__(self) -> None:
        self.net = by_hand(Net())
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.01)
        self._batches = iter(DataLoader(data(), SIZE))

    def step(self) -> float:
        """Train for a step; return the CPU seconds."""
        begin = time.process_time()
        images, labels = next(self._batches)
        self.optimizer.zero_grad()
        functional.cross_entropy(self.net(images), labels).backward()
        self.optimizer.step()
        return time.process_time() - begin


def data() -> TensorDataset:
    """Return images with labels for all steps."""
    return TensorDataset(torch.rand(STEPS * SIZE, 3, 16, 16), torch.arange(STEPS * SIZE) % 3)


def by_hand(net: Net) -> Net:
    """Freeze all but the head, without freezekit."""
    net.body.requires_grad_(False).eval()
    return net


def lightning(case: str, switch: Switch) -> None:
    """Train by Lightning."""
    from lightning.pytorch import Callback, LightningModule, Trainer

    from freezekit.integrations.lightning import FreezeCallback

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Net()

        def training_step(self, batch: Any, _: int) -> Tensor:
            return functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.01)

    class Steps(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            switch.step(trainer, callback, trainer.optimizers[0])

    module, freeze = Module(), FREEZES[case]
    callback = Callback() if freeze is None else FreezeCallback(freeze)
    if freeze is None:
        by_hand(module.model)
    trainer = Trainer(
        max_epochs=1,
        callbacks=[callback, Steps()],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, DataLoader(data(), SIZE))


def hugging_face(case: str, switch: Switch) -> None:
    """Train by Hugging Face's Trainer."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from benchmarks.trainers.hugging_face import Classifier, Named
    from freezekit.integrations import hugging_face as integration

    class Steps(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
        def on_step_end(self, *_: Any, **__: Any) -> None:
            switch.step(trainer.callback_handler, callback, optimizer)

    freeze = FREEZES[case]
    model = Classifier(Net() if freeze else by_hand(Net()))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    example = torch.zeros(2, 3, 16, 16)
    callback = TrainerCallback()
    if freeze:
        callback = integration.FreezeCallback(freeze, example_input=example)
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=SIZE,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=Named(data()),
            callbacks=[callback, Steps()],
            optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)),
        )
        trainer.train()


TRAINERS: dict[str, Callable[[str, Switch], None]] = {
    "lightning": lightning,
    "hugging_face": hugging_face,
}
