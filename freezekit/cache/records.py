"""What a user asked of a cache, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from freezekit.results.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch
    from torch import nn

    from freezekit.cache.autocasting import Autocast

# Any in this file: a data set may give anything, and a model take it.

OnThaw = Literal["refill", "drop"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked for; see `Frozen.cache`."""

    dataset: Any
    batch_size: int
    autocast: Autocast
    image: int | str | None = None
    folder: Path | None = None
    limit_bytes: int | None = None
    views: int = 1
    seed: int = 0
    workers: int = 0
    data_version: str | None = None
    call: Callable[[nn.Module, Any], Any] | None = None
    dtype: torch.dtype | None = None
    on_thaw: OnThaw = "refill"


@dataclass(frozen=True)
class Filled:
    """What a cache holds.

    Attributes:
        samples: Samples of the data set.
        views: Augmented views of each.
        boundary: The modules whose outputs are kept.
        bytes_per_sample: Of one view.
        dtype: In which they are kept.
        batch_size: The size of batches in which it was filled. Kernels may give other last bits
            for other sizes.
        size_error: The largest difference between features of batches of this size and of a
            smaller one (or, where that has one sample, a larger one), relative to the largest
            feature: 0 where the bits do not depend on the size.
        feature_error: The largest difference of a feature through `dtype`, relative to the largest
            feature; 0 where it keeps all bits.
        output_error: The same of the outputs of the model in training, on one batch.
    """

    samples: int
    views: int
    boundary: tuple[str, ...]
    bytes_per_sample: int
    dtype: torch.dtype
    batch_size: int
    size_error: float
    feature_error: float
    output_error: float

    @property
    def total_bytes(self) -> int:
        """Of all rows."""
        return self.samples * self.views * self.bytes_per_sample

    def __str__(self) -> str:
        views = f" x {self.views} views" if self.views > 1 else ""
        sizes = (
            "the same bits for other batch sizes"
            if self.size_error == 0
            else f"other batch sizes differ by {self.size_error:.1g} of the largest feature"
        )
        rounded = (
            f"; {str(self.dtype).removeprefix('torch.')} moves a feature by up to "
            f"{self.feature_error:.1g} of the largest, and an output of the model by up to "
            f"{self.output_error:.1g} of the largest"
            if self.feature_error
            else ""
        )
        return (
            f"{self.samples:,} samples{views}, features of {', '.join(self.boundary)}, "
            f"{size_text(self.bytes_per_sample)} each, {size_text(self.total_bytes)} in all; "
            f"filled in batches of {self.batch_size}, {sizes}{rounded}"
        )
