"""What do finetuning-scheduler, `BackboneFinetuning` and `FreezeCallback` do, run side by side?

    PYTHON -m benchmarks.trainers.beside_finetuning_scheduler

PYTHON has finetuning-scheduler 2.14.1 beside freezekit: `build/peers` of `make zoo`, then
`build/peers/bin/python -m pip install finetuning-scheduler==2.14.1`. All train the same small
network with Lightning, on the CPU, in one thread: the head for an epoch, then a part of the
backbone, then all (`BackboneFinetuning`: all from the second epoch on). Replicas on ranks are
in `benchmarks/phases/trainers.py`.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from timm.scheduler import CosineLRScheduler
from torch.optim import lr_scheduler

from benchmarks.facts import environment, write_whole
from benchmarks.trainers.matrix import apart
from benchmarks.trainers.side_by_side import (
    EPOCHS,
    IMAGES,
    OPTION,
    PER_EPOCH,
    RATE,
    TOOLS,
    fit,
    trained,
)
from freezekit.integrations.lightning import FreezeCallback

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer

STEPS = PER_EPOCH * EPOCHS
DECAY = 0.05
SCHEDULERS: dict[str, tuple[str, Callable[[Optimizer], Any]]] = {  # Any: no common class
    "CosineAnnealingLR": ("step", lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS)),
    "StepLR": ("epoch", lambda o: lr_scheduler.StepLR(o, 1, 0.5)),
    "LambdaLR": ("step", lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 - step / STEPS)),
    "OneCycleLR": ("step", lambda o: lr_scheduler.OneCycleLR(o, RATE, STEPS)),
    "SequentialLR": (
        "step",
        lambda o: lr_scheduler.SequentialLR(
            o,
            [
                lr_scheduler.LinearLR(o, 0.2, total_iters=4),
                lr_scheduler.CosineAnnealingLR(o, STEPS - 4),
            ],
            [4],
        ),
    ),
    "timm CosineLRScheduler": ("step", lambda o: CosineLRScheduler(o, STEPS, t_in_epochs=False)),
}


class WhileFrozen(Callback):
    """Looks at the backbone in the first epoch, while nothing of it is to be trained."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}  # Any: JSON
        self._before: dict[str, Tensor] = {}

    def on_train_start(self, _: Trainer, module: LightningModule) -> None:
        """Remember the backbone."""
        self._before = {n: each.clone() for n, each in module.backbone.state_dict().items()}

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """After the epoch's last step, look at what moved, and at the features of an image."""
        if trainer.global_step != PER_EPOCH:
            return
        after = module.backbone.state_dict()
        moved = [n for n, value in self._before.items() if not torch.equal(value, after[n])]
        backbone = deepcopy(module.backbone)
        features = []
        for part in (IMAGES[:4], torch.cat([IMAGES[:1], IMAGES[5:8]])):
            torch.manual_seed(0)  # the same dropout, so that batch norm alone is seen
            with torch.no_grad():
                features.append(backbone(part)[0])
        self.found = {
            "moved": moved,
            "modules": len(list(backbone.modules())),
            "in_train_mode": sum(each.training for each in backbone.modules()),
            "with_requires_grad": [n for n, p in backbone.named_parameters() if p.requires_grad],
            "features_of_an_image_apart": float((features[0] - features[1]).abs().max()),
        }


class Rates(Callback):
    """Notes the learning rate and the weight decay of each parameter before each step."""

    def __init__(self) -> None:
        self.lr: dict[str, list[float | None]] = {}
        self.decay: dict[str, list[float | None]] = {}

    def on_before_optimizer_step(self, _: Trainer, module: LightningModule, made: Any) -> None:
        """Note them; None where the optimizer does not have a parameter, or it has no gradient."""
        groups = {id(p): group for group in made.param_groups for p in group["params"]}
        for name, parameter in module.named_parameters():
            group = {} if parameter.grad is None else groups.get(id(parameter), {})
            self.lr.setdefault(name, []).append(group.get("lr"))
            self.decay.setdefault(name, []).append(group.get("weight_decay"))


def while_frozen(tool: str, folder: Path) -> dict[str, Any]:  # Any: JSON
    """Train the head for an epoch: what happens to the backbone?"""
    look = WhileFrozen()
    fit(tool, folder, look)
    return look.found


def resumed(tool: str, folder: Path, *, by_argument: bool = False) -> dict[str, Any]:  # Any: JSON
    """Go on from each checkpoint with another seed: are the weights those of the whole training?"""
    found = {}
    for kind, when in {
        "after a step": {"every_n_train_steps": 2},
        "after a validation": {"every_n_epochs": 1, "save_on_train_epoch_end": False},
        "after an epoch": {"every_n_epochs": 1, "save_on_train_epoch_end": True},
    }.items():
        place, validates = folder / kind, kind == "after a validation"
        saves = {"filename": "{step:02}", "save_top_k": -1, **when}
        whole = fit(tool, place, saves=saves, validates=validates)
        expected = {name: value.clone() for name, value in whole.state_dict().items()}
        for path in sorted(place.glob("*.ckpt")):
            step = int(path.stem.removeprefix("step="))
            if step == STEPS:
                continue
            key = f"{kind} {step}"
            try:
                again = fit(
                    tool,
                    place / "again",
                    saves=saves,
                    resumes=path,
                    seed=7,
                    validates=validates,
                    by_argument=by_argument,
                )
            except Exception as error:  # noqa: BLE001  # whatever a tool raises is its result
                found[key] = {"raised": f"{type(error).__name__}: {error}"[:400]}
                continue
            result = apart(again.state_dict(), expected)
            found[key] = {
                "differing": len(result["differing"]),
                "of": result["tensors"],
                "largest": result["largest"],
                "frozen_at_the_end": sum(not p.requires_grad for p in again.parameters()),
                "frozen_at_the_end_of_the_whole": sum(
                    not p.requires_grad for p in whole.parameters()
                ),
            }
    return found


def resumed_by_argument(tool: str, folder: Path) -> dict[str, Any]:  # Any: JSON
    """Do the same with the checkpoint given to `fit()`."""
    return resumed(tool, folder, by_argument=True)


def apart_from_decay(
    tool: str, folder: Path, *, no_decay: tuple[str, ...] = ()
) -> dict[str, Any]:  # Any: JSON
    """Give weights a decay, and norms and biases none: does each keep its own when it is thawed?"""

    def optimizer(module: LightningModule) -> Optimizer:
        everything = any(isinstance(each, FreezeCallback) for each in module.trainer.callbacks)
        chosen = list(module.parameters()) if everything else trained(module)
        module.no_decay = list(no_decay)
        return torch.optim.AdamW(
            [
                {"params": [p for p in chosen if p.ndim > 1], "weight_decay": DECAY},
                {"params": [p for p in chosen if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=RATE,
            weight_decay=DECAY if no_decay else 0.01,  # torch's default
        )

    rates = Rates()
    module = fit(tool, folder, rates, optimizer=optimizer)
    last = {name: values[-1] for name, values in rates.decay.items()}
    wanted = {name: DECAY if p.ndim > 1 else 0.0 for name, p in module.named_parameters()}
    other = sorted(name for name in wanted if last[name] != wanted[name])
    return {"parameters": len(wanted), "with_another_decay": other, "decays": last}


def apart_by_name(tool: str, folder: Path) -> dict[str, Any]:  # Any: JSON
    """Do the same with the names that finetuning-scheduler asks for, and the decay as a default."""
    return apart_from_decay(tool, folder, no_decay=("bias", ".1.weight"))


def schedulers(tool: str, folder: Path) -> dict[str, Any]:  # Any: JSON
    """Attach learning-rate schedulers: are they taken, and what are the rates of what thaws?"""
    found: dict[str, Any] = {}
    for name, (interval, make) in SCHEDULERS.items():
        rates = Rates()

        def attach(made: Optimizer, interval: str = interval, make: Any = make) -> dict[str, Any]:
            return {"scheduler": make(made), "interval": interval}

        try:
            fit(tool, folder / name, rates, scheduler=attach)
        except Exception as error:  # noqa: BLE001  # whatever a tool raises is its result
            found[name] = {"raised": f"{type(error).__name__}: {error}"[:400]}
            continue
        found[name] = {
            "head": rates.lr["fc.weight"],
            "first_block": rates.lr["backbone.0.0.weight"],
        }
    return found


QUESTIONS = {
    "while frozen": while_frozen,
    "resumed, trainer.ckpt_path": resumed,
    "resumed, fit(ckpt_path=)": resumed_by_argument,
    "weight decay": apart_from_decay,
    "weight decay, no_decay": apart_by_name,
    "schedulers": schedulers,
}


@click.command(help=__doc__)
@click.option(
    "-o",
    "--output",
    default=Path("benchmarks/results/trainers-beside.json"),
    type=click.Path(path_type=Path),
)
def main(output: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "finetuning_scheduler"):
        logging.getLogger(name).setLevel(logging.ERROR)
    packages = ("lightning", "finetuning-scheduler")
    facts = {**environment(), **{name: version(name) for name in packages}}
    rows = []
    for question, ask in QUESTIONS.items():
        for tool in (*TOOLS, OPTION) if ask is while_frozen else TOOLS:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found = ask(tool, Path(folder))
                except Exception as error:  # noqa: BLE001  # as above
                    found = {"raised": f"{type(error).__name__}: {error}"[:400]}
            rows.append({"question": question, "tool": tool, **found})
            click.echo(rows[-1])
            write_whole(output, {"environment": facts, "rows": rows})


if __name__ == "__main__":
    main()
