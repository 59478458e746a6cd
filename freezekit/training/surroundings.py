"""What a training leaves as it was: random state and threads; and what it hears: warnings."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from freezekit.errors import FreezekitWarning
from freezekit.model.random_state import RandomState

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def own_surroundings(threads: int | None, device: str) -> Iterator[None]:
    """Give a training its number of threads; restore threads and random state after it.

    Args:
        threads: For torch; None for as many as there are.
        device: Of the training.
    """
    before = torch.get_num_threads()
    random_state = RandomState.now([torch.device(device)] if device.startswith("cuda") else [])
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        random_state.restore()


@contextmanager
def noting(notes: list[str]) -> Iterator[None]:
    """Add what freezekit warns of to notes, each once; all other warnings are as ever.

    Example:
        >>> notes = []
        >>> with noting(notes):
        ...     warnings.warn("frozen parts move", FreezekitWarning)
        >>> notes
        ['frozen parts move']
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", FreezekitWarning)
        show = warnings.showwarning

        def showwarning(
            message: Warning | str, category: type[Warning], *where: Any, **options: Any
        ) -> None:  # Any: Python's own
            if issubclass(category, FreezekitWarning):
                if str(message) not in notes:
                    notes.append(str(message))
            else:
                show(message, category, *where, **options)

        warnings.showwarning = showwarning
        yield
