"""What freezekit says of each structure, asked once per process, as asking takes time."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from freezekit import Backbone, FreezekitError, FreezekitWarning, FreezePlan, plan

if TYPE_CHECKING:
    from tests.field.records import Structure

APPLIED = (
    "full",
    "head-only",
    "first-n-stages:n=1",
    "last-n-stages:n=1",
    "surgical:stages=last,head=false",
    "fraction:share=0.7",
    "layer-decay:decay=0.7",
    "discriminative-lr:decay=0.5",
    "norm-only",
    "bias-only",
    "attention-only",
    "patch-embed",
    "batch-norm",
    "by-name:contains=weight",
)
"""Each built-in strategy once. These plans are applied, which takes most of the time."""

SPECS = (
    *APPLIED,
    "first-n-stages:n=0",
    "last-n-stages:n=0",
    "surgical:stages=first",
    "fraction:share=0.7,of=parameters",
    "batch-norm:train=only",
)
"""All specs that are planned: those with the options that change most of the plan."""

PREFIXES = ("head-only", "first-n-stages", "last-n-stages", "fraction")
"""Strategies that freeze a prefix, into which no gradient may come."""

KEEP_HEAD = (*PREFIXES, "norm-only", "bias-only", "attention-only", "batch-norm:train=only")
"""Strategies that train the head, whatever they freeze."""


@dataclass(frozen=True)
class Answer:
    """The plan of a spec, or why there is none, with the warnings."""

    plan: FreezePlan | None
    refusal: str
    warnings: tuple[str, ...]


@cache
def backbone_of(structure: Structure) -> Backbone:
    """Return the view of a structure. Its model is not to be changed."""
    return Backbone(structure.make(), structure.given())


@cache
def answer(structure: Structure, spec: str) -> Answer:
    """Return the answer to one spec."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", FreezekitWarning)
        try:
            decided, refusal = plan(backbone_of(structure), spec), ""
        except FreezekitError as error:
            decided, refusal = None, f"{type(error).__name__}: {error}"
    return Answer(decided, refusal, tuple(map(str, messages(told))))


def messages(told: list[warnings.WarningMessage]) -> list[str]:
    """Return the texts of freezekit's own warnings."""
    return [str(w.message) for w in told if issubclass(w.category, FreezekitWarning)]


def plans(structure: Structure) -> dict[str, FreezePlan]:
    """Return each plan that is applied once, by the first spec that makes it."""
    found: dict[tuple[object, ...], tuple[str, FreezePlan]] = {}
    for spec in APPLIED:
        decided = answer(structure, spec).plan
        if decided is not None:
            found.setdefault((decided.frozen, decided.eval_modules), (spec, decided))
    return dict(found.values())


def arrived(structure: Structure) -> set[str]:
    """Return the parameters that are frozen before freezekit comes."""
    model = backbone_of(structure).model
    return {n for n, p in model.named_parameters() if not p.requires_grad}
