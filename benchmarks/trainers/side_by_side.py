"""A small Lightning training that three callbacks freeze, each as its documentation says."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BackboneFinetuning, ModelCheckpoint
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from benchmarks.trainers.lightning import KeepsItsPlace
from freezekit.integrations.lightning import FreezeCallback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PER_EPOCH, EPOCHS, SIZE, RATE = 5, 3, 4, 0.02
SOURCE = torch.Generator().manual_seed(1)
IMAGES = torch.rand(PER_EPOCH * SIZE, 3, 16, 16, generator=SOURCE)
LABELS = torch.arange(PER_EPOCH * SIZE) % 3

FREEZEKIT = "head-only then last-n-stages:n=2 at 1ep then full at 2ep"
PHASES: dict[int, dict[str, Any]] = {  # Any: as finetuning-scheduler reads it
    0: {"params": ["fc.*"], "max_transition_epoch": 1},
    1: {"params": ["backbone.2.*"], "max_transition_epoch": 2, "lr": RATE},
    2: {"params": ["backbone.0.*", "backbone.1.*"], "max_transition_epoch": 3, "lr": RATE},
}
"""The same three phases, in the words of each."""


def _block(inside: int, out: int) -> nn.Sequential:
    conv = nn.Conv2d(inside, out, 3, 2, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU(), nn.Dropout(0.1))


class Classifier(LightningModule):
    """Three blocks with batch norm and dropout, and a linear layer.

    Args:
        optimizer: Makes an optimizer of the trained parameters, or of groups of them.
        scheduler: Makes a configuration of Lightning's for it.
    """

    def __init__(
        self,
        optimizer: Callable[[LightningModule], torch.optim.Optimizer],
        scheduler: Callable[[torch.optim.Optimizer], dict[str, Any]] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.backbone = nn.Sequential(_block(3, 8), _block(8, 16), _block(16, 16))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 3)
        self.example_input_array = torch.zeros(2, 3, 16, 16)
        self.made, self.attached = optimizer, scheduler

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of shape (batch, classes)."""
        return self.fc(self.pool(self.backbone(images)).flatten(1))  # type: ignore[no-any-return]

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Return the loss; dropout is the same in a resumed training."""
        torch.manual_seed(self.global_step)
        loss = functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss.detach(), on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        """Log the loss."""
        self.log("val_loss", functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the scheduler if there is one."""
        optimizer = self.made(self)
        if self.attached is None:
            return optimizer
        return [optimizer], [self.attached(optimizer)]

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:  # Any: of torch and timm
        """Step timm's schedulers too, as Lightning asks for."""
        if isinstance(scheduler, CosineLRScheduler):
            scheduler.step_update(self.global_step)
        else:
            super().lr_scheduler_step(scheduler, metric)


def trained(module: LightningModule) -> list[nn.Parameter]:
    """Return what is not frozen: the two others ask for an optimizer of these alone."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def freezekit() -> tuple[Callback, dict[str, Any]]:  # Any: the class of its checkpoints
    """Return the callback, and nothing of its own."""
    return FreezeCallback(FREEZEKIT), {}


def backbone_finetuning() -> tuple[Callback, dict[str, Any]]:  # Any: as above
    """Return Lightning's callback."""
    return BackboneFinetuning(unfreeze_backbone_at_epoch=1), {}


def finetuning_scheduler(**options: Any) -> tuple[Callback, dict[str, Any]]:  # Any: as above
    """Return the callback, and the class of its checkpoints."""
    from finetuning_scheduler import FinetuningScheduler, FTSCheckpoint

    given = {
        "ft_schedule": deepcopy(PHASES),  # it is changed in place
        "epoch_transitions_only": True,
        "restore_best": False,  # there is no validation that would tell the best
    }
    return FinetuningScheduler(**given | options), {"checkpoint": FTSCheckpoint}


def without_statistics() -> tuple[Callback, dict[str, Any]]:  # Any: as above
    """Return the same, with the option for the statistics of frozen norms."""
    return finetuning_scheduler(frozen_bn_track_running_stats=False)


TOOLS = {
    "FreezeCallback": freezekit,
    "BackboneFinetuning": backbone_finetuning,
    "FinetuningScheduler": finetuning_scheduler,
}
OPTION = "FinetuningScheduler, frozen_bn_track_running_stats=False"


def sgd(module: LightningModule) -> torch.optim.Optimizer:
    """Return the usual optimizer of these trainings: of what each tool asks for."""
    everything = any(isinstance(each, FreezeCallback) for each in module.trainer.callbacks)
    chosen = module.parameters() if everything else trained(module)
    return torch.optim.SGD(chosen, RATE, momentum=0.9)


def fit(
    tool: str,
    folder: Path,
    *looks: Callback,
    saves: dict[str, Any] | None = None,
    resumes: Path | None = None,
    optimizer: Callable[[LightningModule], torch.optim.Optimizer] = sgd,
    scheduler: Callable[[torch.optim.Optimizer], dict[str, Any]] | None = None,
    seed: int = 0,
    validates: bool = False,
    by_argument: bool = True,
) -> Classifier:
    """Train, and return the module.

    Args:
        tool: A key of `TOOLS`.
        folder: For checkpoints.
        looks: Callbacks that look at the training.
        saves: Options of the checkpoint callback, which the tool may have of its own.
        resumes: A checkpoint.
        optimizer: As for `Classifier`.
        scheduler: As for `Classifier`.
        seed: Of the weights at the beginning.
        validates: Whether each epoch has a validation.
        by_argument: Whether the checkpoint is given to `fit()`, or to the trainer before, as the
            documentation of finetuning-scheduler does it.
    """
    callback, own = {**TOOLS, OPTION: without_statistics}[tool]()
    checkpoints: Sequence[Callback] = (
        [] if saves is None else [own.get("checkpoint", ModelCheckpoint)(folder, **saves)]
    )
    trainer = Trainer(
        max_epochs=EPOCHS,
        callbacks=[callback, *looks, *checkpoints],
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=bool(checkpoints) or "checkpoint" in own,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Classifier(optimizer, scheduler, seed)
    data = TensorDataset(IMAGES, LABELS)
    if resumes and not by_argument:
        trainer.ckpt_path = str(resumes)
    trainer.fit(
        module,
        KeepsItsPlace(data, SIZE),
        KeepsItsPlace(data, SIZE) if validates else None,
        ckpt_path=str(resumes) if resumes and by_argument else None,
    )
    return module
