"""Which of lean's cores runs: the native one, or the one in Python."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from packaging.version import Version

from freezekit.errors import FreezekitError
from freezekit.lean.native.building import build, find_built
from freezekit.lean.norm import DifferentiableGradients

if TYPE_CHECKING:
    from pathlib import Path

TESTED = Version("2.11"), Version("2.16")
"""PyTorch from the first on, below the second: the core uses parts of it that change, and
the pass for torch.compile knows the operators of its graphs."""

VARIABLE = "FREEZEKIT_LEAN_CORE"
"""Set to `python`, the core in Python runs. Set to `native`, the native core runs on every device,
and an error says where it cannot."""

_choice: list[tuple[Any, str]] = []  # Any: the module; what was decided in this process, once


def prepare_core(device: str = "cpu") -> None:
    """Build the native core where it can be and is not yet.

    Args:
        device: The type of device that holds the model.
    """
    if _is_for(device) and not _choice:
        _choice.append(_decided(may_build=True))


def native_core(device: str = "cpu") -> Any:  # Any: a module in C++
    """Return the native core; None where the core in Python runs. It never builds.

    Args:
        device: The type of device that holds the model.
    """
    return _chosen()[0] if _is_for(device) else None


def is_to_be_built(device: str = "cpu") -> bool:
    """Tell whether the native core would run, and is not there yet."""
    return _is_for(device) and _chosen()[1] == _NOT_BUILT


def core_in_use(device: str = "cpu", *, build: bool = False) -> str:
    """Return which core runs, and where it is not the native one why, in one line.

    Args:
        device: The type of device that holds the model.
        build: Build the native core first where it is to run.

    Example:
        >>> core_in_use().split(":")[0] in ("native core", "core in Python")
        True
    """
    if not _is_for(device):
        return f"core in Python: the native core was tested on the CPU alone, not on {device}"
    if build:
        prepare_core()
    module, why_not = _chosen()
    return "native core" if module is not None else f"core in Python: {why_not}"


def _chosen() -> tuple[Any, str]:
    if not _choice:
        decided = _decided(may_build=False)
        if decided[1] == _NOT_BUILT:  # it may be built later
            return decided
        _choice.append(decided)
    return _choice[0]


_NOT_BUILT = "the native core is not built yet, which happens when a model is first made lean"


def _decided(*, may_build: bool) -> tuple[Any, str]:
    wanted = _wanted()
    if wanted == "python":
        return None, f"{VARIABLE} is set to python"
    module, why_not = _loaded(may_build=may_build)
    if wanted == "native" and module is None and why_not != _NOT_BUILT:
        raise FreezekitError(
            f"{VARIABLE} is set to native, and the native core cannot run: {why_not}"
        )
    return module, why_not


def _wanted() -> str:
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in ("auto", "native", "python"):
        raise FreezekitError(f"{VARIABLE} is {wanted!r}; it can be auto, native or python")
    return wanted


def _is_for(device: str) -> bool:
    """Tell whether the native core may run on a device: it was never run on any but the CPU."""
    return device == "cpu" or _wanted() == "native"


def _loaded(*, may_build: bool) -> tuple[Any, str]:
    if sys.platform != "linux":
        return None, f"the native core was tested on Linux alone, and this is {sys.platform}"
    if not TESTED[0] <= Version(Version(torch.__version__).base_version) < TESTED[1]:
        return None, f"the native core was tested with torch {TESTED[0]}, not {torch.__version__}"
    found = find_built()
    if found is None:
        if not may_build:
            return None, _NOT_BUILT
        found = build()
    if found.library is None:
        return None, found.why_not
    try:
        return _import(found.library), ""
    except ImportError as error:
        return None, f"{found.library} cannot be loaded: {str(error).splitlines()[0]}"


@cache
def _import(library: Path) -> Any:  # Any: a module in C++
    spec = importlib.util.spec_from_file_location("core", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.set_differentiable_gradients(DifferentiableGradients.apply)
    return module
