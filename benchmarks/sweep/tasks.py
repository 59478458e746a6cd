"""Functions of tasks by which engines are timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.engines.records import JSON


def nothing(argument: JSON, report: Callable[[JSON], None]) -> JSON:  # noqa: ARG001  # an interface
    """Return the argument."""
    return argument


def imports(argument: JSON, report: Callable[[JSON], None]) -> JSON:  # noqa: ARG001  # as above
    """Import what each training needs; return the argument."""
    import timm
    import torch
    import torchvision

    assert timm, (torch, torchvision)
    return argument
