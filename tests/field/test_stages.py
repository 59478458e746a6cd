"""The stages of each structure are complete and in order, and each prefix is clean."""

from __future__ import annotations

import pytest

from tests.field.answers import backbone_of
from tests.field.observed import leaks, set_flags, shape_of
from tests.field.table import STRUCTURES

each = pytest.mark.parametrize("structure", STRUCTURES, ids=str)


@each
def test_stages_are_a_partition(structure):
    backbone = backbone_of(structure)
    before = shape_of(backbone.model)
    stages = backbone.stages
    assert shape_of(backbone.model) == before
    parameters = [name for stage in stages for name in stage.parameters]
    assert sorted(parameters) == sorted(n for n, _ in backbone.model.named_parameters())
    buffers = [name for stage in stages for name in stage.buffers]
    assert sorted(buffers) == sorted(n for n, _ in backbone.model.named_buffers())
    kinds = [stage.kind for stage in stages]
    assert kinds == sorted(kinds, key=["stem", "body", "neck", "head"].index)
    assert kinds.count("stem") == kinds.count("head") == 1
    assert len({stage.name for stage in stages}) == len(stages)


@each
def test_there_are_enough_stages(structure):
    held = [stage.name for stage in backbone_of(structure).stages if stage.parameters]
    assert len(held) >= structure.stages, held


@each
def test_the_head_is_found(structure):
    backbone = backbone_of(structure)
    closed = {name for name in backbone.parameters if not structure.is_open(name)}
    expected = {name for name in closed if structure.is_head(name)}
    assert expected or not structure.head
    assert closed.intersection(backbone.head.parameters) == expected


@each
def test_no_gradient_enters_a_prefix_of_stages(structure):
    stages = backbone_of(structure).stages
    names = [stage.parameters for stage in stages]
    assert _entered(structure, names, [stage.name for stage in stages]) == {}


@each
def test_no_gradient_enters_a_prefix_of_layers(structure):
    layers = backbone_of(structure).layers
    assert _entered(structure, layers, [names[:1] for names in layers]) == {}


def _entered(structure, parts, labels):
    """Return what leaks when the first parts are frozen by hand, for each number of parts."""
    found = {}
    model = structure.make()
    for count in range(1, len(parts)):
        frozen = {name for names in parts[:count] for name in names}
        if len(frozen) == len(backbone_of(structure).parameters):
            break
        set_flags(model, frozen)
        entered = leaks(structure, model, frozen)
        if entered:
            found[f"up to {labels[count - 1]}"] = entered
    return found
