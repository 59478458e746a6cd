"""Which command wrote a file that is to be read."""

from __future__ import annotations


def is_sweep(path: str) -> bool:
    """Tell whether `freezekit sweep` wrote a file; its reader tells if it cannot be read."""
    from freezekit.errors import OutputError
    from freezekit.results.files import read_text
    from freezekit.results.reading import is_of
    from freezekit.sweep.records import SWEEP_KIND

    try:
        return is_of(read_text(path), SWEEP_KIND)
    except OutputError:
        return False
