"""All structures of this folder."""

from __future__ import annotations

from tests.field import (
    adapters,
    containers,
    convolutions,
    dense,
    functions,
    lists,
    sequences,
    transformers,
    trunks,
)

STRUCTURES = (
    *adapters.STRUCTURES,
    *containers.STRUCTURES,
    *functions.STRUCTURES,
    *convolutions.STRUCTURES,
    *dense.STRUCTURES,
    *lists.STRUCTURES,
    *sequences.STRUCTURES,
    *transformers.STRUCTURES,
    *trunks.STRUCTURES,
)
