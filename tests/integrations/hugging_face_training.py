"""A small training with Hugging Face's Trainer, and the plain loop that must have the same bits."""

from __future__ import annotations

import hashlib
import math
import os
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    get_scheduler,
)

from freezekit import freeze_
from freezekit.integrations.hugging_face import FreezeCallback, optimizers

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit.handle.frozen import Frozen

BATCHES, EPOCHS, SIZE = 4, 3, 4
RATE, DECAY = 0.01, 0.05
IMAGES = torch.rand(BATCHES * SIZE, 3, 32, 32, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(BATCHES * SIZE) % 3


class Pictures(Dataset[Any]):
    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": IMAGES[index], "labels": LABELS[index]}


def network(seed: int = 0) -> nn.Module:
    """Return a model with batch norms and dropout."""
    torch.manual_seed(seed)
    config = TimmWrapperConfig(
        architecture="test_resnet", num_labels=3, model_args={"drop_rate": 0.2}
    )
    return TimmWrapperForImageClassification(config)


def vit(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=3,
        hidden_dropout_prob=0.1,
    )
    return ViTForImageClassification(config)


def arguments(folder: Path | str, **options: Any) -> TrainingArguments:
    defaults = {
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": SIZE,
        "per_device_eval_batch_size": SIZE,
        "learning_rate": RATE,
        "weight_decay": DECAY,
        "use_cpu": True,
        "ddp_backend": "gloo" if "RANK" in os.environ else None,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
    }
    return TrainingArguments(str(folder), **defaults | options)


class InOrder(Trainer):
    """Reads images in their order, so that a plain loop can do the same."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Seeds(TrainerCallback):
    """Seeds the dropout of each step."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        torch.manual_seed(state.global_step)


def fit(
    callback: FreezeCallback,
    folder: Path,
    *,
    model: nn.Module | None = None,
    data: Any = None,
    has_optimizer: bool = True,
    resume: Path | None = None,
    of: type[Trainer] = InOrder,
    **options: Any,
) -> tuple[nn.Module, Trainer]:
    """Train with a callback."""
    model = model or network()
    args = arguments(folder, **options)
    trainer = of(
        model,
        args,
        train_dataset=data or Pictures(),
        eval_dataset=Pictures(),
        callbacks=[callback, Seeds()],
        optimizers=optimizers(model, args) if has_optimizer else (None, None),
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return model, trainer


def plain(
    begin: str,
    schedule: str | None = None,
    *,
    accumulate: int = 1,
    lean: bool = False,
    validates: bool = False,
    model: nn.Module | None = None,
) -> tuple[nn.Module, Frozen]:
    """Train as docs/schedules.md does it, with what Trainer does beside it."""
    model = model or network()
    frozen = freeze_(model, begin, lean=lean)
    optimizer = torch.optim.AdamW(grouped(frozen, schedule), lr=RATE, eps=1e-8, fused=True)
    per_epoch = math.ceil(BATCHES / accumulate)
    rates = get_scheduler("linear", optimizer, 0, per_epoch * EPOCHS)
    run = None
    if schedule is not None:
        run = frozen.follow(schedule, optimizer, [rates], epochs=EPOCHS, steps_per_epoch=per_epoch)
    made = 0
    for _ in range(EPOCHS):
        for i in range(BATCHES):
            if i % accumulate == 0:
                torch.manual_seed(made)
            model.train()
            part = slice(i * SIZE, (i + 1) * SIZE)
            loss = model(pixel_values=IMAGES[part], labels=LABELS[part]).loss
            first = i - i % accumulate
            (loss / (min(first + accumulate, BATCHES) - first)).backward()
            if (i + 1) % accumulate == 0 or i == BATCHES - 1:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                rates.step()
                model.zero_grad()
                made += 1
                if run is not None:
                    run.step()
        metrics = {"eval_loss": validated(model)} if validates else {}
        if run is not None:
            run.epoch(metrics)
    return model, frozen


def grouped(frozen: Frozen, schedule: str | None) -> list[dict[str, Any]]:
    """Return the groups of the handle, with weight decay where Trainer has it."""
    groups = frozen.param_groups(RATE, DECAY, all_phases=schedule if schedule else False)
    decayed = set(Trainer.get_decay_parameter_names(None, frozen.backbone.model))
    named = {id(p): n for n, p in frozen.backbone.model.named_parameters()}
    found = []
    for group in groups:
        for decays in (True, False):
            params = [p for p in group["params"] if (named[id(p)] in decayed) == decays]
            if params:
                name = f"{group['name']}, {decays}"
                decay = DECAY if decays else 0.0
                found.append(group | {"params": params, "weight_decay": decay, "name": name})
    return found


def validated(model: nn.Module) -> float:
    model.eval()
    losses = []
    with torch.no_grad():
        for i in range(BATCHES):
            part = slice(i * SIZE, (i + 1) * SIZE)
            losses += [model(pixel_values=IMAGES[part], labels=LABELS[part]).loss.repeat(SIZE)]
    return float(torch.cat(losses).mean())


def digest(model: nn.Module) -> str:
    values = [value.detach().numpy().tobytes() for value in model.parameters()]
    return hashlib.sha256(b"".join(values)).hexdigest()


def equal(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )
