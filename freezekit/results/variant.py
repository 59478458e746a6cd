"""What a row measures: a strategy, in stock PyTorch or lean."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """A strategy as it is measured.

    Attributes:
        spec: Canonical.
        lean: Whether it is frozen with `freeze_(..., lean=True)`; else stock, as PyTorch does it.

    Example:
        >>> Variant("batch-norm").label, Variant("batch-norm", lean=True).label
        ('batch-norm', 'batch-norm [lean]')
    """

    spec: str
    lean: bool = False

    @property
    def label(self) -> str:
        """Name the row: in raw steps, events, tables and sentences alike.

        No spec reads like the label of another one: canonical ones have quotes around blanks.
        """
        return f"{self.spec} [lean]" if self.lean else self.spec

    @property
    def stock(self) -> Variant:
        """The same strategy without lean."""
        return Variant(self.spec)


BASELINE = Variant("full")
