"""What other tools reach on a real model, asked the same questions as freezekit.

Each tool is used as its own documentation says, with the options that freeze most:

- freezekit: `freeze_(model, "first-n-stages:n=2")`.
- timm freeze: `timm.utils.freeze(model, submodules)`, docstring of timm/utils/model.py.
- lightning: `BaseFinetuning.freeze(modules, train_bn=False)`, the optimizer over what requires
  grad: https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.BaseFinetuning.html
- fastai: the model of `vision_learner`, its own splitter, `freeze()` with `train_bn=False` and the
  `BnFreeze` callback: https://docs.fast.ai/vision.learner.html, callback.training.html
- torchvision FrozenBatchNorm2d: put in for each `nn.BatchNorm2d`, as detectron2's
  `FrozenBatchNorm2d.convert_frozen_batchnorm` does; torchvision has the layer and no converter.
- timm freeze_batch_norm_2d: timm/utils/model.py.

The first three are given the same modules: the outermost that lie wholly in freezekit's first two
stages.
"""

from __future__ import annotations

import copy
import gc
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves

from benchmarks.zoo.models import MOST_PARAMETERS, ZooModel, build, build_small, example, room_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit import Stage

FREEZERS = ("freezekit", "timm freeze", "lightning freeze")
CONVERTERS = ("torchvision FrozenBatchNorm2d", "timm freeze_batch_norm_2d")
PEERS = (*FREEZERS, "fastai", *CONVERTERS)
IMAGES_ONLY = ("detection", "segmentation", "video", "optical_flow")


class NotAskedError(Exception):
    """A tool that cannot be asked a question about this model, and why."""


@dataclass(frozen=True)
class Subject:
    """One model, and what of it is to be frozen.

    Attributes:
        job: As the sweep gave it.
        model: With values, on the CPU.
        inputs: Arguments of its forward.
        stages: freezekit's first two.
        modules: The outermost modules that lie wholly in them.
    """

    job: dict[str, Any]  # Any: JSON
    model: nn.Module
    inputs: tuple[Any, ...]  # Any: whatever the model takes
    stages: tuple[Stage, ...]
    modules: tuple[str, ...]


def examine(job: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the line of one model and one tool.

    Args:
        job: The fields of a `ZooModel`, and one of `PEERS`.
    """
    started = time.perf_counter()
    line = dict(job)
    try:
        line |= {"status": "done", **_ask(job)}
    except NotAskedError as error:
        line |= {"status": "-", "reason": str(error)}
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the tool's own failure is a result
        line |= {"status": "raised", "reason": f"{type(error).__name__}: {error}"[:300]}
    line["seconds"] = round(time.perf_counter() - started, 2)
    gc.collect()
    return line


def _ask(job: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    from benchmarks.zoo.fastai_peer import ask_fastai
    from benchmarks.zoo.frozen import outermost
    from freezekit import Backbone

    text = ZooModel(job["library"], job["name"], job["family"]).text
    if (count := sum(p.numel() for p in build(text).parameters())) > MOST_PARAMETERS:
        raise NotAskedError(f"{count:,} parameters, more than {MOST_PARAMETERS:,}")
    with room_for(count):
        model, inputs, _ = build_small(text)
        if job["peer"] == "fastai":
            if job["family"].split(".")[0] in IMAGES_ONLY:
                raise NotAskedError("fastai's vision_learner makes classifiers of images")
            return ask_fastai(job["library"], job["name"], inputs)
        stages = Backbone(model, example(model, inputs)).stages[:2]
        inside = [name for stage in stages for name in stage.modules]
        holds = {n for n, m in model.named_modules() if any(True for _ in m.parameters())}
        modules = tuple(outermost([name for name in inside if name in holds]))
        subject = Subject(job, model, inputs, stages, modules)
        return _freeze(subject) if job["peer"] in FREEZERS else _convert(subject)


def _freeze(subject: Subject) -> dict[str, Any]:  # Any: JSON
    """Freeze, train, look: weights, statistics, outputs, and what was not frozen at all."""
    from benchmarks.zoo.frozen import after_training
    from freezekit.model.loss import loss_function
    from freezekit.model.tasks import task_of

    task = task_of(subject.model)
    keys = list(subject.model.state_dict())
    FREEZING[subject.job["peer"]](subject)
    named = dict(subject.model.named_parameters())
    asked = {name for stage in subject.stages for name in stage.parameters}
    missed = sorted(name for name in asked & named.keys() if named[name].requires_grad)
    found = after_training(subject.model, subject.inputs, loss_function(task), subject.modules)
    same_keys = list(subject.model.state_dict()) == keys
    return {"whole": not missed, "missed": missed[:3], "keys": same_keys, **found}


def freeze_freezekit(subject: Subject) -> None:
    from freezekit import freeze_

    given = example(subject.model, subject.inputs)
    freeze_(subject.model, "first-n-stages:n=2", example_input=given)


def freeze_timm(subject: Subject) -> None:
    from timm.utils import freeze

    freeze(subject.model, list(subject.modules))


def freeze_lightning(subject: Subject) -> None:
    from lightning.pytorch.callbacks import BaseFinetuning

    modules = [subject.model.get_submodule(name) for name in subject.modules]
    BaseFinetuning.freeze(modules, train_bn=False)


FREEZING: dict[str, Callable[[Subject], None]] = {
    "freezekit": freeze_freezekit,
    "timm freeze": freeze_timm,
    "lightning freeze": freeze_lightning,
}


def _convert(subject: Subject) -> dict[str, Any]:  # Any: JSON
    """Convert the norms of the whole model; what of outputs and keys stays, what goes on moving."""
    from benchmarks.zoo.frozen import TOLERANCE, distance
    from freezekit import Backbone

    model = subject.model.eval()
    norms = [norm.name for norm in Backbone(model).norms if norm.statistics]
    if not norms:
        raise NotAskedError("no norm that keeps running statistics")
    _lived_in(model, norms)
    converted = CONVERTING[subject.job["peer"]](copy.deepcopy(model)).eval()
    left = [m for m in converted.modules() if isinstance(m, _NormBase) and m.track_running_stats]
    outputs = [_output(net, subject.inputs) for net in (model, converted)]
    far = distance(*outputs)
    return {
        "norms": len(norms),
        "left": len(left),
        "keys": list(model.state_dict()) == list(converted.state_dict()),
        "outputs": far <= TOLERANCE,
        "distance": round(far, 6),
    }


def _lived_in(model: nn.Module, norms: list[str]) -> None:
    """Give norms the statistics and weights of a model that was trained, instead of 0 and 1."""
    for name in norms:
        norm = model.get_submodule(name)
        for key, tensor in {**dict(norm.named_buffers()), **dict(norm.named_parameters())}.items():
            with torch.no_grad():
                if key in ("running_var", "weight"):
                    tensor.uniform_(0.8, 1.2)
                elif key in ("running_mean", "bias"):
                    tensor.uniform_(-0.1, 0.1)


def _output(model: nn.Module, inputs: tuple[Any, ...]) -> torch.Tensor:
    """Return all that a model answers, flat; of a detection model, what its backbone does.

    Which boxes a detection model keeps hangs on the last bit.
    """
    if isinstance(inputs[0], list):
        model, inputs = model.backbone, (torch.stack(inputs[0]),)  # type: ignore[assignment]
    with torch.no_grad():
        leaves = tree_leaves(model(*copy.deepcopy(inputs)))
    return torch.cat([t.reshape(-1).double() for t in leaves if isinstance(t, torch.Tensor)])


def convert_torchvision(model: nn.Module) -> nn.Module:
    """Do what detectron2's converter does, with torchvision's layer."""
    from torchvision.ops.misc import FrozenBatchNorm2d

    for name, child in list(model.named_children()):
        if isinstance(child, (nn.BatchNorm2d, nn.SyncBatchNorm)):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            frozen.load_state_dict(child.state_dict(), strict=child.affine)
            model.add_module(name, frozen)
        else:
            convert_torchvision(child)
    return model


def convert_timm(model: nn.Module) -> nn.Module:
    from timm.utils.model import freeze_batch_norm_2d

    converted: nn.Module = freeze_batch_norm_2d(model)
    return converted


CONVERTING: dict[str, Callable[[nn.Module], nn.Module]] = {
    "torchvision FrozenBatchNorm2d": convert_torchvision,
    "timm freeze_batch_norm_2d": convert_timm,
}
