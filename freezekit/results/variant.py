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


class OfVariant:
    """A row of a result: the variant that it is about, and its label."""

    strategy: str
    lean: bool
    __slots__ = ()

    @property
    def variant(self) -> Variant:
        """What the row is about; no two rows of a result are about the same variant."""
        return Variant(self.strategy, self.lean)

    @property
    def label(self) -> str:
        """The name of the row in raw steps, events, tables and sentences."""
        return self.variant.label


BASELINE = Variant("full")
