"""Recognises an error as out of memory, which torch reports in several ways."""

from __future__ import annotations

import torch

_OUT_OF_MEMORY_TEXTS = (
    "can't allocate memory",  # torch's CPU allocator
    "not enough memory",  # the same on Windows
    "out of memory",  # CUDA outside the caching allocator
    "bad_alloc",  # C++
    "ALLOC_FAILED",  # cuBLAS and cuDNN
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or one that caused it, means that the device's memory ran out.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shapes differ"))
        (True, False)
    """
    while error is not None:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(t in str(error) for t in _OUT_OF_MEMORY_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False
