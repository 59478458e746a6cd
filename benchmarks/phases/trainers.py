"""A script for torchrun, which `ranks.py` starts: what trainers thaw, on several ranks.

    torchrun --nproc-per-node 2 -m benchmarks.phases.trainers OUTPUT

Lightning's `BackboneFinetuning` and the `FinetuningScheduler` of finetuning-scheduler train the
same network with the same batches, each as its documentation says. A phase is an epoch of 10 steps.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import tempfile
import warnings
from collections import OrderedDict
from copy import deepcopy
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.phases.on_ranks import LR, PER_PHASE, WIDTH, result
from benchmarks.phases.replicas import Replicas
from benchmarks.phases.training import Net, batch

BACKBONE = ("stem", "s1", "s2", "s3")
STRATEGIES = ("ddp", "ddp_find_unused_parameters_true")

# As in a fine-tuning schedule that a user writes for finetuning-scheduler: a phase each epoch.
SCHEDULE: dict[int, dict[str, Any]] = {
    0: {"params": ["fc.*"], "max_transition_epoch": 1},
    1: {"params": ["backbone.s2.*", "backbone.s3.*"], "max_transition_epoch": 2, "lr": LR},
    2: {"params": ["backbone.stem.*", "backbone.s1.*"], "max_transition_epoch": 3, "lr": LR},
}


def lightning(strategy: str) -> dict[str, Any]:  # Any: JSON
    """Train the head for an epoch, then all, by Lightning's `BackboneFinetuning`."""
    from lightning.pytorch.callbacks import BackboneFinetuning

    return _fit("lightning", strategy, lambda: [BackboneFinetuning(unfreeze_backbone_at_epoch=1)])


def finetuning_scheduler(strategy: str) -> dict[str, Any]:  # Any: JSON
    """Train three phases by finetuning-scheduler."""
    from finetuning_scheduler import FinetuningScheduler

    options = {
        "ft_schedule": deepcopy(SCHEDULE),  # it is changed in place
        "epoch_transitions_only": True,
        "restore_best": False,  # there is no validation that would tell the best
    }
    return _fit("finetuning-scheduler", strategy, lambda: [FinetuningScheduler(**options)])


TRAINERS = {"lightning": lightning, "finetuning_scheduler": finetuning_scheduler}
"""By the name of the package that each needs."""


def _fit(name: str, strategy: str, make: Any) -> dict[str, Any]:  # Any: callbacks; JSON
    from lightning import pytorch

    class Module(pytorch.LightningModule):  # type: ignore[misc]  # it may be missing
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            net = Net(WIDTH)
            parts = OrderedDict((n, m) for n, m in net.named_children() if n in BACKBONE)
            self.backbone = nn.Sequential(parts)
            self.pool, self.drop, self.fc = net.pool, net.drop, net.fc

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.drop(self.pool(self.backbone(x)).flatten(1)))  # type: ignore[no-any-return]

        def training_step(self, data: Any, _: int) -> torch.Tensor:
            loss = functional.cross_entropy(self(data[0]), data[1])
            self.log("loss", loss.detach(), on_step=False, on_epoch=True)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            trained = [p for p in self.parameters() if p.requires_grad]
            return torch.optim.SGD(trained, LR, momentum=0.9)

    module = Module()
    replicas = Replicas(module)

    class Look(pytorch.Callback):  # type: ignore[misc]  # as above
        def on_train_batch_start(self, *_: Any) -> None:
            replicas.before_step()

        def on_train_batch_end(self, *_: Any) -> None:
            replicas.after_step()

    data = [batch(step, distributed.get_rank()) for step in range(PER_PHASE)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = pytorch.Trainer(
            accelerator="cpu",
            devices=distributed.get_world_size(),
            strategy=strategy,
            max_epochs=3,
            logger=False,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            callbacks=[*make(), Look()],
        )
        trainer.fit(module, DataLoader(data, batch_size=None))
        distributed.barrier()
    return {"trainer": name, "version": version(name), "strategy": strategy, **result(replicas)}


def main(output: Path) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rows = []
    for (package, train), strategy in product(TRAINERS.items(), STRATEGIES):
        try:
            importlib.import_module(package)
        except ImportError as error:
            rows.append({"trainer": package, "skipped": f"not installed: {error}"})
            continue
        try:
            rows.append(train(strategy))
        except Exception as error:  # noqa: BLE001  # whatever a trainer raises is its result
            said = f"{type(error).__name__}: {error}"[:500]
            rows.append({"trainer": package, "strategy": strategy, "failed": said})
    if not distributed.get_rank():
        output.write_text(json.dumps(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
