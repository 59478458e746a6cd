"""Several processes fill a cache together, each its share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from torch import distributed

from freezekit.errors import CacheError
from freezekit.schedules.agreement import has_other_ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Value = TypeVar("Value")


def place_among_ranks() -> tuple[int, int]:
    """Return the rank of this process, and how many there are.

    Example:
        >>> place_among_ranks()  # no process group
        (0, 1)
    """
    if not has_other_ranks():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def from_all_ranks(make: Callable[[], Value]) -> list[Value]:
    """Return what each rank makes, in their order; an error of one is an error of all.

    Raises:
        CacheError: Another rank has raised an error.
    """
    _, count = place_among_ranks()
    if count == 1:
        return [make()]
    made: tuple[Value | None, str] = None, ""
    raised: Exception | None = None
    try:
        made = make(), ""
    except Exception as error:  # noqa: BLE001  # any error: the other ranks would wait for ever
        raised, made = error, (None, f"{type(error).__name__}: {error}")
    found: list[Any] = [None] * count  # Any: filled by the call
    distributed.all_gather_object(found, made)
    if raised is not None:
        raise raised
    for other, (_, said) in enumerate(found):
        if said:
            raise CacheError(f"rank {other} could not fill its share of the cache: {said}")
    return [value for value, _ in found]


def on_this_rank(make: Callable[[], Value]) -> Value:
    """Return what is made here; an error of another rank is an error here too.

    Raises:
        CacheError: Another rank has raised an error.
    """
    made: list[Value] = []
    from_all_ranks(lambda: made.append(make()))
    return made[0]


def check_same_on_all_ranks(marks: Mapping[str, str]) -> None:
    """Refuse what ranks would fill differently.

    Raises:
        CacheError: A mark differs.
    """
    found = from_all_ranks(lambda: dict(marks))
    for rank, other in enumerate(found):
        for name, value in found[0].items():
            if other.get(name) != value:
                raise CacheError(
                    f"ranks would fill different caches: {name} is {value} on rank 0 and "
                    f"{other.get(name)} on rank {rank}; give all ranks the same model and the "
                    "whole data set"
                )
