"""Lean gives the bits of stock PyTorch on each structure, under each plan."""

from __future__ import annotations

import warnings

import pytest

from freezekit import FreezekitWarning, freeze_
from tests.field.answers import plans
from tests.field.observed import differing, step
from tests.field.table import STRUCTURES
from tests.sampled import sampled


@pytest.mark.parametrize("structure", sampled(STRUCTURES, every=5), ids=str)
def test_lean_has_the_bits_of_stock(structure):
    different = {}
    for spec, decided in plans(structure).items():
        stock, lean = structure.make(), structure.make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FreezekitWarning)
            freeze_(stock, decided)
            freeze_(lean, decided, lean=True)
        theirs, ours = step(structure, stock), step(structure, lean)
        names = differing(theirs, ours) + sorted(theirs.keys() ^ ours.keys())
        if names:
            different[spec] = names
    assert different == {}
