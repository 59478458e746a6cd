"""`torch.compile` of a model, with errors that say what to do."""

from __future__ import annotations

import sys
from functools import cache, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from freezekit.errors import CompilationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

_REMEDY = (
    "on the CPU it needs a C++ compiler such as g++ (another one by the environment variable CXX), "
    "on CUDA Triton and a C compiler; or leave out --compile"
)


def compile_(model: nn.Module) -> Callable[..., Any]:  # Any: whatever the model takes and returns
    """Return what runs a model compiled; the model itself stays eager.

    Each call has its own compiled code. Else models of one class share it after a graph break, and
    from the ninth model on nothing is compiled. PyTorch before 2.14 has no option for that.

    Raises:
        CompilationError: At a call, the model cannot be compiled.
    """
    own: dict[str, Any] = {"isolate_recompiles": True}
    is_known = own.keys() <= signature(torch.compile).parameters.keys()
    compiled: Callable[..., Any] = torch.compile(model, **(own if is_known else {}))

    @wraps(model)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return compiled(*args, **kwargs)
        except Exception as error:
            if not _is_of_compiler(error):
                raise
            raise CompilationError(
                f"torch.compile of this {type(model).__name__} failed: {_first_line(error)}; it "
                "runs without --compile"
            ) from error

    return run


@cache
def check_compiler(device: str) -> None:
    """Compile an addition, once in a process: what takes long once is done, what is missing shows.

    Raises:
        CompilationError: It cannot be compiled.
    """

    def add(tensor: Tensor) -> Tensor:
        return tensor + 1

    try:
        torch.compile(add)(torch.zeros(8, device=device))
    except Exception as error:
        raise CompilationError(
            f"torch.compile does not work on this machine: {_first_line(error)}; {_REMEDY}"
        ) from error


def _is_of_compiler(error: BaseException) -> bool:
    """Return whether `torch.compile` raised it, and not what it compiles."""
    exceptions = sys.modules.get("torch._dynamo.exc")  # it takes seconds to import
    return exceptions is not None and isinstance(error, exceptions.TorchDynamoException)


def _first_line(error: BaseException) -> str:
    """Return the first line of the error at the bottom, which Inductor and Dynamo wrap."""
    inner = getattr(error, "inner_exception", None)
    if isinstance(inner, BaseException):
        return _first_line(inner)
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
