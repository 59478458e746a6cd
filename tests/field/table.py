"""All structures of this folder."""

from __future__ import annotations

from tests.field import dense, lists, trunks

STRUCTURES = (*trunks.STRUCTURES, *lists.STRUCTURES, *dense.STRUCTURES)
