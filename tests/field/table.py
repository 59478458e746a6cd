"""All structures of this folder.

To add one, write the model in the module of its kind, with the project or report from which it
comes as the first line, and add a row to the table at the end of that module. A row says what is
right, also where freezekit is wrong today.
"""

from __future__ import annotations

from tests.field import (
    adapters,
    containers,
    convolutions,
    dense,
    functions,
    heads,
    lists,
    sequences,
    stateful,
    transformers,
    trunks,
    wrapped,
)

STRUCTURES = (
    *adapters.STRUCTURES,
    *containers.STRUCTURES,
    *convolutions.STRUCTURES,
    *dense.STRUCTURES,
    *functions.STRUCTURES,
    *heads.STRUCTURES,
    *lists.STRUCTURES,
    *sequences.STRUCTURES,
    *stateful.STRUCTURES,
    *transformers.STRUCTURES,
    *trunks.STRUCTURES,
    *wrapped.STRUCTURES,
)
