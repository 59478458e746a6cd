"""A training step whose model `torch.compile` compiles, in a measuring process."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from freezekit.model.compiling import check_compiler, compile_

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.bench.workload import Session

_CACHES = {"TORCHINDUCTOR_CACHE_DIR": "", "TRITON_CACHE_DIR": "triton"}
"""The environment variables by which Inductor finds its caches, and where these lie in a folder."""


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
        check_compiler(session.workload.device)
    name = hashlib.sha256(label.encode()).hexdigest()[:16]
    with _caches_in(None if folder is None else str(Path(folder, name))):
        session.run = compile_(session.model)
        started = perf_counter()
        session.step()
        if session.workload.device == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - started


def graphs_compiled() -> int:
    """Return how many graphs this process has compiled until now."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


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
