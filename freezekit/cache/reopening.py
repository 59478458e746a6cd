"""Rows that an earlier process left are compared with what the model gives now."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from freezekit.cache.calls import outputs_of
from freezekit.cache.layout import close
from freezekit.cache.samples import digest_of, spread
from freezekit.errors import CacheError

if TYPE_CHECKING:
    from freezekit.cache.attached import TakesRows
    from freezekit.cache.rows import Rows
    from freezekit.cache.source import Source

CHECKED = 8
"""Rows that are computed again, from all over the data set."""
MOST_APART = 1e-2
"""Of the largest number: other machines and numbers of threads round otherwise, int8 by 1 in
254."""


def check_rows_there(
    source: Source, rows: Rows, takes: TakesRows, missing: list[range], count: int
) -> None:
    """Refuse rows that are no longer what the data set and the model give.

    Args:
        source: Of images, or of features that are true.
        rows: With those of an earlier process.
        takes: What they are.
        missing: Units that are not filled.
        count: Of all rows.

    Raises:
        CacheError: They differ.
    """
    if not rows.is_shared:
        return
    found_there = [i for i in spread(count, 8 * CHECKED) if not any(i in u for u in missing)]
    asked = [found_there[place] for place in spread(len(found_there), CHECKED)]
    if not asked:
        return
    samples = [source.samples[index] for index in asked]
    kept, batch = source.collate(samples * (1 + (len(samples) == 1)))  # batch norms want two
    encoding = takes.encoding
    with torch.no_grad():
        found = outputs_of(source.model, partial(source.run, batch), takes.prefix.cut)
    new = encoding.decode(encoding.encode(takes.prefix.rows(found, len(kept)))).cpu()
    for index, row, sample in zip(asked, new, kept, strict=False):
        stored, old = rows.read(index)
        is_close = close(encoding.decode(stored[None])[0], row, MOST_APART)
        if not is_close or digest_of(old) != digest_of(sample):
            raise CacheError(
                f"what is stored of sample {index} is not what the data set and the model give "
                "now: labels, code of the model or call= may have changed; delete the folder, or "
                "give another"
            )
