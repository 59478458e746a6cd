"""What a row measures: a strategy, stock or lean, eager or compiled, on images or on features."""

from __future__ import annotations

from dataclasses import dataclass, replace

from freezekit.results.lean_text import LeanChoice, lean_name


@dataclass(frozen=True)
class Variant:
    """A strategy as it is measured.

    Attributes:
        spec: Canonical.
        lean: Whether it is frozen with `freeze_(..., lean=True)`; else stock, as PyTorch does it.
            Text such as "budget:2GiB" is what `freeze_` is given.
        cached: Whether its steps take features of `frozen.cache(...)` in place of images.
        compiled: Whether `torch.compile` compiles the model; else it is eager.

    Example:
        >>> Variant("batch-norm").label, Variant("batch-norm", lean=True).label
        ('batch-norm', 'batch-norm [lean]')
        >>> Variant("head-only", lean=True, cached=True).label
        'head-only [lean, cache]'
        >>> Variant("head-only", lean=True, compiled=True).label
        'head-only [lean, compiled]'
        >>> Variant("head-only", lean="budget:2GiB").label
        'head-only [budget:2GiB]'
    """

    spec: str
    lean: LeanChoice = False
    cached: bool = False
    compiled: bool = False

    @property
    def label(self) -> str:
        """Name the row: in raw steps, events, tables and sentences alike.

        No spec reads like the label of another one: canonical ones have quotes around blanks.
        """
        has = (
            (lean_name(self.lean), self.lean),
            ("compiled", self.compiled),
            ("cache", self.cached),
        )
        kinds = [name for name, holds in has if holds]
        return f"{self.spec} [{', '.join(kinds)}]" if kinds else self.spec

    @property
    def stock(self) -> Variant:
        """The same strategy without lean."""
        return replace(self, lean=False)

    @property
    def uncached(self) -> Variant:
        """The same strategy on images."""
        return replace(self, cached=False)

    @property
    def eager(self) -> Variant:
        """The same strategy without `torch.compile`."""
        return replace(self, compiled=False)


BASELINE = Variant("full")
