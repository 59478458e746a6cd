"""Every built-in strategy on each structure: planned, applied, verified and undone, or refused."""

from __future__ import annotations

import re
import warnings

import pytest
import torch

from freezekit import FreezekitError, FreezekitWarning, freeze_
from tests.field.answers import (
    KEEP_HEAD,
    PREFIXES,
    SPECS,
    answer,
    arrived,
    backbone_of,
    messages,
    plans,
)
from tests.field.observed import differing, leaks, loss_of, set_flags, shape_of, values_of
from tests.field.table import STRUCTURES
from tests.sampled import sampled

each = pytest.mark.parametrize("structure", STRUCTURES, ids=str)


@each
def test_a_strategy_plans_or_says_truly_why_not(structure):
    wrong = {}
    for spec in SPECS:
        said, words = answer(structure, spec), structure.refusal(spec)
        if words and (not said.refusal or not re.search(words, said.refusal)):
            wrong[spec] = f"expected a refusal with {words!r}: {said.refusal or 'planned'}"
        if not words and said.refusal:
            wrong[spec] = said.refusal
    assert wrong == {}


@each
def test_the_head_is_trained_at_the_full_rate(structure):
    backbone = backbone_of(structure)
    head = {n for n in backbone.parameters if structure.is_head(n)} - arrived(structure)
    wrong = {}
    for spec in SPECS:
        decided = answer(structure, spec).plan
        if decided is None:
            continue
        if spec.startswith(KEEP_HEAD) and head & decided.frozen:
            wrong[spec] = ("freezes of the head", sorted(head & decided.frozen))
        trained = backbone.parameters.keys() - decided.frozen - head
        more = sorted(name for name in trained if not structure.is_open(name))
        if spec == "head-only" and more:
            wrong[spec] = ("trains beside the head", more)
        slow = sorted(name for name in head if decided.lr_scales.get(name, 1.0) != 1.0)
        if slow:
            wrong[spec] = ("trains the head more slowly", slow)
    assert wrong == {}


@pytest.mark.parametrize("structure", sampled(STRUCTURES, every=2), ids=str)
def test_warnings_are_true_and_given(structure):
    seen = [text for spec in SPECS for text in answer(structure, spec).warnings]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", FreezekitWarning)
        most = max(plans(structure).values(), key=lambda decided: len(decided.frozen))
        freeze_(structure.make(), most, example_input=structure.given())
    seen = [t for t in (*seen, *messages(told)) if not t.startswith("no parameter matches")]
    assert [t for t in seen if not any(re.search(w, t) for w in structure.warns)] == []
    assert [w for w in structure.warns if not any(re.search(w, t) for t in seen)] == []


@pytest.mark.parametrize("structure", sampled(STRUCTURES, every=6), ids=str)
def test_no_gradient_enters_what_is_frozen_first(structure):
    entered = {}
    model = structure.make()
    for spec in SPECS:
        decided = answer(structure, spec).plan
        if decided is not None and spec.startswith(PREFIXES):
            set_flags(model, decided.frozen)
            found = leaks(structure, model, decided.frozen - arrived(structure))
            if found:
                entered[spec] = found
    assert entered == {}


@pytest.mark.parametrize("structure", sampled(STRUCTURES, every=10), ids=str)
def test_frozen_is_frozen_and_undone(structure):
    wrong = {}
    for spec, decided in plans(structure).items():
        try:
            _freeze_train_undo(structure, decided)
        except (AssertionError, FreezekitError) as error:
            wrong[spec] = f"{type(error).__name__}: {error}"
    assert wrong == {}


def _freeze_train_undo(structure, decided):
    model = structure.make()
    before, values = shape_of(model), values_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreezekitWarning)
        frozen = freeze_(model, decided)
    model.train()
    flags = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert flags == decided.frozen
    assert [m for m in decided.eval_modules if model.get_submodule(m).training] == []
    assert differing(values, values_of(model)) == []
    held = decided.frozen.union(
        n for n, _ in model.named_buffers() if n.rpartition(".")[0] in decided.eval_modules
    )
    moving = {owner for owner in map(_owner, structure.moves) if owner in decided.eval_modules}
    fails = bool(moving) or any(map(structure.moves_itself, held))
    _check_proof(structure, frozen, moving, fails)
    changed = differing(values, _trained(structure, model, frozen))
    assert [n for n in changed if n in held and not structure.moves_itself(n)] == []
    assert set(changed) - held
    frozen.undo()
    model.train()
    assert shape_of(model) == before | {"hooks": _hooks_after_a_forward(structure)}


def _hooks_after_a_forward(structure):
    """Return the numbers of hooks of a model that ran and was never frozen: it may put some on."""
    model = structure.make().train()
    structure.run(model)
    return shape_of(model)["hooks"]


def _owner(name):
    return name.rpartition(".")[0]


def _check_proof(structure, frozen, moving, fails):
    found = frozen.verify(structure.given(), steps=1, loss=structure.loss)
    failed = [check for check in found.checks if not check.passed]
    named = {n for check in failed for n in check.offenders}
    assert [n for n in named - moving if not structure.moves_itself(n)] == [], str(found)
    assert bool(failed) == fails, str(found)


def _trained(structure, model, frozen):
    """Return the values after one step of an optimizer that moves all that it is given."""
    optimizer = torch.optim.SGD(frozen.param_groups(lr=0.05, weight_decay=0.01))
    loss_of(structure, structure.run(model)).backward()
    optimizer.step()
    return values_of(model)
