"""The device that a command is to run on."""

from __future__ import annotations

from freezekit.errors import ModelError


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ModelError: It is not.

    Example:
        >>> check_device("cpu")
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device cuda: torch finds no CUDA device on this machine")
