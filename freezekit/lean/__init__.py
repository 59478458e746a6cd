"""Lean: a frozen layer holds no memory that its gradient does not need."""

from freezekit.lean.attachment import Lean

__all__ = ["Lean"]
