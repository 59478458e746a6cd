"""Trainings of which tests compare the bits."""

from __future__ import annotations

from typing import Any

import torch

from freezekit import Recipe, Trained, Trial

SEVEN = {"epochs": 4, "image_size": 32, "batch_size": 7, "augment": "none", "lr": 3e-3}
"""24 images in batches of 7: the last one has 3."""

RESNET, VIT = "timm:test_resnet", "timm:test_vit"
THAWS = "head-only then last-n-stages:n=2 at 2ep then full at 3ep"
WITHIN = "head-only then last-n-stages:n=2 at 1.5ep"
REFREEZES = "last-n-stages:n=3 then head-only at 1.5ep then full at 2ep"


def recipe(strategy: str = "head-only", model: str = RESNET, **changes: Any) -> Recipe:
    """Return a recipe of a training that takes a second; it takes features of a cache."""
    return Recipe(model, strategy, **(SEVEN | changes))


def facts(trial: Trial) -> list[tuple[object, ...]]:
    """Return all of its epochs that does not depend on the machine."""
    return [(e.number, e.train_loss, e.lr, e.val, e.flops, e.cached) for e in trial.epochs]


def learnt(trial: Trial) -> list[tuple[object, ...]]:
    """Return what was learnt, without what it took."""
    return [(e.number, e.train_loss, e.lr, e.val) for e in trial.epochs]


def same_weights(one: Trained, other: Trained) -> bool:
    """Tell whether two models have the same bits."""
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)
