"""A training step whose model `torch.compile` compiles, in a measuring process."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import contextmanager
from functools import cache
from inspect import signature
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from freezekit.errors import CompilationError
from freezekit.model.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from freezekit.bench.workload import Session

_CACHES = {"TORCHINDUCTOR_CACHE_DIR": "", "TRITON_CACHE_DIR": "triton"}
"""The environment variables by which Inductor finds its caches, and where these lie in a folder."""

_REMEDY = (
    "on the CPU it needs a C++ compiler such as g++ (another one by the environment variable CXX), "
    "on CUDA Triton and a C compiler; or leave out --compile"
)


def compile_(model: nn.Module) -> Callable[..., Any]:  # Any: whatever the model takes and returns
    """Return what runs a model compiled; the model itself stays eager.

    Each call has its own compiled code. Else models of one class share it after a graph break, and
    from the ninth model on nothing is compiled. PyTorch before 2.14 has no option for that.
    """
    own: dict[str, Any] = {"isolate_recompiles": True}
    is_known = own.keys() <= signature(torch.compile).parameters.keys()
    run: Callable[..., Any] = torch.compile(model, **(own if is_known else {}))
    return run


def compile_session(session: Session, label: str, folder: str | None) -> float:
    """Compile the model of a session, and step once; later steps run what was compiled.

    Args:
        session: Its model is eager.
        label: Of the row. Rows share nothing that is compiled: the first ones would take longer.
        folder: Where Inductor keeps what it compiles; None for its usual place, in which it may
            find the model.

    Returns:
        Seconds of the step, in which everything is compiled. They are few where that was done in
        the same folder before. The import of Inductor is no part of it, nor what Inductor finds out
        about the compiler and the processor.

    Raises:
        CompilationError: The machine cannot compile, or the model cannot be compiled.
    """
    with _caches_in(folder):
        _check_compiler(session.workload.device)
    name = hashlib.sha256(label.encode()).hexdigest()[:16]
    with _caches_in(None if folder is None else str(Path(folder, name))):
        session.run = compile_(session.model)
        started = perf_counter()
        try:
            session.step()
            if session.workload.device == "cuda":
                torch.cuda.synchronize()
        except Exception as error:
            if not is_of_compiler(error) or is_out_of_memory(error):
                raise
            raise CompilationError(
                f"torch.compile of {session.workload.model!r} failed: {_first_line(error)}; the "
                "model runs without --compile"
            ) from error
        return perf_counter() - started


def graphs_compiled() -> int:
    """Return how many graphs this process has compiled until now."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def is_of_compiler(error: BaseException) -> bool:
    """Return whether `torch.compile` raised it, and not what it compiles."""
    exceptions = sys.modules.get("torch._dynamo.exc")  # it takes seconds to import
    return exceptions is not None and isinstance(error, exceptions.TorchDynamoException)


@cache
def _check_compiler(device: str) -> None:
    """Compile an addition: what takes long once is done, and what is missing shows.

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


@contextmanager
def _caches_in(folder: str | None) -> Iterator[None]:
    """Let Inductor keep what it compiles in a folder; None for its usual place."""
    if folder is None:
        yield
        return
    before = {name: os.environ.get(name) for name in _CACHES}
    os.environ.update({name: str(Path(folder, place)) for name, place in _CACHES.items()})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _first_line(error: BaseException) -> str:
    """Return the first line of the error at the bottom, which Inductor and Dynamo wrap."""
    inner = getattr(error, "inner_exception", None)
    if isinstance(inner, BaseException):
        return _first_line(inner)
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
