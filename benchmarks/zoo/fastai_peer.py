"""fastai's cuts and splits: the model that `vision_learner` would train, frozen as it freezes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.zoo.frozen import after_training, outermost
from benchmarks.zoo.reach import observe_reach, unclean

if TYPE_CHECKING:
    from torch import nn

CLASSES = 10


def ask_fastai(library: str, name: str, inputs: tuple[Any, ...]) -> dict[str, Any]:  # Any: JSON
    """Cut, split, freeze and train a model as fastai does.

    `Learner.freeze` is `Optimizer.freeze_to(-1)` over the splitter's groups, and the `BnFreeze`
    callback calls `set_bn_eval` when an epoch begins; both are called here as they are.
    """
    warnings.simplefilter("ignore")
    from fastai.callback.training import set_bn_eval
    from fastai.optimizer import SGD

    from freezekit.model.loss import loss_function

    model, known, groups = _model(library, name, int(inputs[0].shape[-1]))
    inputs = _taken(model, inputs, f"{library}:{name}")
    names = {id(parameter): n for n, parameter in model.named_parameters()}
    parts = [[names[id(p)] for p in group] for group in groups]
    given = [n for part in parts for n in part]
    found: dict[str, Any] = {
        "known": known,
        "groups": len(parts),
        "complete": set(given) == set(names.values()),
        "disjoint": len(given) == len(set(given)),
    }
    at = unclean(model, observe_reach(model, inputs), parts)
    found |= {"clean": not at, "unclean": at[:3]}
    optimizer = SGD(groups, lr=1e-3, mom=0.9)
    optimizer.freeze_to(-1)
    frozen = {n for part in parts[:-1] for n in part}
    whole = [
        n
        for n, module in model.named_modules()
        if n and (own := [names[id(p)] for p in module.parameters()]) and frozen.issuperset(own)
    ]
    loss = loss_function("image")
    try:
        trained = after_training(
            model,
            inputs,
            loss,
            outermost(whole),
            trained=lambda: set_bn_eval(model),
            optimizer=optimizer,
        )
    except Exception as error:  # noqa: BLE001  # the groups are a result all the same
        trained = {"reason": f"{type(error).__name__}: {error}"[:300]}
    return found | trained


def _taken(model: nn.Module, inputs: tuple[Any, ...], text: str) -> tuple[Any, ...]:
    """Return the small inputs, or those of the model's own size where it takes no others."""
    from benchmarks.zoo.models import build
    from freezekit.model.tasks import default_image_size

    size = default_image_size(build(text), text)
    own = torch.randn(*inputs[0].shape[:2], size, size)
    try:
        with torch.no_grad():
            model.train()(*inputs)
    except Exception:  # noqa: BLE001  # the model of the library may be built for one size
        return (own,)
    return inputs


def _model(library: str, name: str, size: int) -> tuple[nn.Module, bool, list[list[nn.Parameter]]]:
    """Return the model, whether fastai knows the family, and the splitter's groups."""
    from fastai.vision.learner import (
        create_timm_model,
        create_vision_model,
        default_split,
        model_meta,
    )

    if library == "timm":
        try:
            model, _ = create_timm_model(name, CLASSES, pretrained=False, img_size=size)
        except TypeError:
            model, _ = create_timm_model(name, CLASSES, pretrained=False)
        return model, False, [list(group) for group in default_split(model)]
    from torchvision.models import get_model_builder

    arch = get_model_builder(name)
    meta = model_meta.get(arch, {"cut": None, "split": default_split})
    model = create_vision_model(arch, CLASSES, pretrained=False, cut=meta["cut"])
    return model, arch in model_meta, [list(group) for group in meta["split"](model)]
