"""Hugging Face's Trainer, with its `FreezeCallback`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer as HuggingFaceTrainer
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from benchmarks.trainers import task as tasks
from freezekit.integrations import hugging_face as integration

if TYPE_CHECKING:
    from benchmarks.trainers.task import Task
    from benchmarks.trainers.watch import Watch

SPLIT, RATES = "blocks", "torch"


class Classifier(nn.Module):
    """The same model, with the names that Trainer knows."""

    main_input_name = "pixel_values"

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.model = net

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return logits, and the loss where there are labels."""
        logits = self.model(pixel_values)
        loss = {} if labels is None else {"loss": functional.cross_entropy(logits, labels)}
        return loss | {"logits": logits}


class Named(Dataset[dict[str, Tensor]]):
    """The same samples, as dicts."""

    def __init__(self, data: Any) -> None:  # Any: a TensorDataset, or one of features
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image, label = self.data[index]
        return {"pixel_values": image, "labels": label}


class Trainer(HuggingFaceTrainer):  # type: ignore[misc]  # transformers has no types here
    """Trainer with photographs in their order, and dropout that a resume has again."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)

    def training_step(self, *given: Any, **named: Any) -> Tensor:
        """Return the loss."""
        torch.manual_seed(self.state.global_step)
        return super().training_step(*given, **named)  # type: ignore[no-any-return]


class Look(TrainerCallback):  # type: ignore[misc]  # as above
    """Shows each step to a watch."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Look before it."""
        self.watch.before()

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        """Look after it."""
        self.watch.after(state.global_step)


def train(task: Task, net: nn.Module, data: Dataset[Any], watch: Watch) -> None:
    arguments = TrainingArguments(
        output_dir=str(task.folder),
        num_train_epochs=tasks.EPOCHS,
        per_device_train_batch_size=tasks.BATCH // task.processes,
        save_strategy="steps",
        save_steps=tasks.SAVED_EVERY,
        max_grad_norm=0.0,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        ddp_backend="gloo" if task.processes > 1 else None,
        remove_unused_columns=False,
    )
    callback = integration.FreezeCallback(
        task.freeze, lean=task.lean, example_input=torch.zeros(2, 3, tasks.SIZE, tasks.SIZE)
    )
    model, named = Classifier(net), Named(data)
    optimizer = tasks.optimizer(model.parameters())
    trainer = Trainer(
        model,
        arguments,
        train_dataset=callback.features_of(named) if task.cached else named,
        callbacks=[callback, Look(watch)],
        optimizers=(optimizer, tasks.rates(task, optimizer)),
    )
    last = get_last_checkpoint(str(task.folder)) if task.resumes else None
    trainer.train(resume_from_checkpoint=last)
