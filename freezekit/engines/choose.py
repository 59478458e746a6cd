"""The engine that a command names; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from freezekit.errors import EngineError, suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.engines.records import Engine

EngineName = Literal["local", "ray", "slurm"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


def make_engine(
    name: str,
    *,
    address: str | None = None,
    folder: str | None = None,
    at_once: int | None = None,
    threads: int | None = None,
    block: Sequence[str] = (),
    one_per_host: bool = False,
) -> Engine:
    """Make an engine, and connect to its cluster where it has one.

    Args:
        name: "local", "ray" or "slurm".
        address: Of a Ray cluster, as `RayEngine` takes it; for "slurm" the partition. None for the
            default of each. "local" has none.
        folder: For logs and answers of "slurm", which needs one that all hosts reach.
        at_once: Tasks that run at the same time, at most; for "local" alone, as clusters decide.
        threads: Of torch in each process; None for the engine's own choice.
        block: Plugins that are not loaded.
        one_per_host: Run one task at a time on each host, with all its cores, as timing needs it.

    Raises:
        EngineError: There is no such engine, it lacks or does not take one of these, it is not
            installed, or it cannot be reached.

    Example:
        >>> make_engine("slrum")
        Traceback (most recent call last):
        ...
        freezekit.errors.EngineError: there is no engine 'slrum', did you mean 'slurm'? ...
    """
    if name not in ENGINES:
        hint = suggest(name, ENGINES) or ";"
        raise EngineError(f"there is no engine {name!r}{hint} expected {', '.join(ENGINES)}")
    if at_once is not None and name != "local":
        raise EngineError(
            f"the engine {name!r} decides itself how many run at once; leave out --jobs"
        )
    if name == "ray":
        from freezekit.engines.ray import RayEngine

        return RayEngine(address, threads, block, one_per_host=one_per_host)
    if name == "slurm":
        from freezekit.engines.slurm import SlurmEngine

        if folder is None:
            raise EngineError(
                "the engine 'slurm' needs a folder for its logs and answers, which all hosts reach"
            )
        return SlurmEngine(folder, address, threads=threads, block=block, one_per_host=one_per_host)
    if address is not None:
        raise EngineError(
            f"the engine 'local' has no address, and {address!r} was given; leave out --address, "
            "or choose --engine ray or slurm"
        )
    from freezekit.engines.local import LocalEngine

    if one_per_host:  # such a task is long: imports in advance gain nothing
        return LocalEngine(1, None, threads, block, is_forked=False)
    return LocalEngine(at_once, None, threads, block)
