"""Copies of each structure compute what it computes, and leave it alone."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

from freezekit import FreezekitWarning, freeze_
from freezekit.model.copies import deep_copies, eagerly, meta_copy, on_device, real_copy
from freezekit.model.nested import tensors
from tests.field.observed import differing, same_bits, shape_of, step, values_of
from tests.field.records import arguments
from tests.field.table import STRUCTURES
from tests.sampled import sampled

each = pytest.mark.parametrize("structure", STRUCTURES, ids=str)


@each
def test_a_real_copy_computes_the_same(structure):
    model = structure.make().eval()
    before, values = shape_of(model), values_of(model)
    copied = real_copy(model)
    assert shape_of(model) == before
    with torch.no_grad():
        torch.manual_seed(2)
        ours = list(tensors(structure.run(copied)))
        assert differing(values, values_of(model)) == []  # the copy shares no memory
        torch.manual_seed(2)
        theirs = list(tensors(structure.run(model)))
    assert same_bits(ours, theirs)


@pytest.mark.parametrize("structure", sampled(STRUCTURES, every=2), ids=str)
def test_a_copy_on_meta_has_shapes_alone(structure):
    model = structure.make().eval()
    values = values_of(model)
    copied = meta_copy(model)
    state = (*copied.named_parameters(), *copied.named_buffers())
    assert [name for name, tensor in state if not tensor.is_meta] == []
    assert {n: t.shape for n, t in state} == {n: t.shape for n, t in values.items()}
    assert [n for n, p in copied.named_parameters() if not isinstance(p, torch.nn.Parameter)] == []
    assert list(copied.state_dict()) == list(model.state_dict())
    args, kwargs = arguments(on_device(structure.given(), torch.device("meta")))
    try:
        with eagerly(copied):
            ours = list(tensors(copied(*args, **kwargs)))
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error):  # it needs values, and is observed on a real copy
            raise
        return
    theirs = list(tensors(structure.run(model)))
    assert [t.shape for t in ours] == [t.shape for t in theirs]
    assert [t.dtype for t in ours] == [t.dtype for t in theirs]


@pytest.mark.parametrize("structure", sampled(STRUCTURES, every=3), ids=str)
def test_a_copy_of_a_frozen_model_is_frozen(structure):
    model = structure.make()
    first = next(name for name, p in model.named_parameters() if p.is_floating_point())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreezekitWarning)
        freeze_(model, f"by-name:glob={first}")
    copies = [deep_copies(model)[0]]
    if _is_copied_by_python(structure):
        copies.append(copy.deepcopy(model))
    model.train()
    modes = {n: m.training for n, m in model.named_modules()}
    for copied in copies:
        assert not dict(copied.named_parameters())[first].requires_grad
        copied.train()
        assert {n: m.training for n, m in copied.named_modules()} == modes
    expected = step(structure, model)
    assert [differing(expected, step(structure, copied)) for copied in copies] == [[]] * len(copies)


def _is_copied_by_python(structure):
    """Tell whether the copy that `copy.deepcopy` makes of the model, never frozen, runs.

    Torch refuses to copy a module that was pruned. Hooks that are closures over the model keep
    their outputs in the original, also when the copy runs.
    """
    try:
        structure.run(copy.deepcopy(structure.make()))
    except KeyError:  # Dpt
        return False
    except RuntimeError as error:
        if "deepcopy protocol" not in str(error):
            raise
        return False
    return True
