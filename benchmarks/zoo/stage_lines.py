"""The stages of one model as one short line, which is readable in a diff of the golden file."""

from __future__ import annotations

import gc
import hashlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from freezekit import Stage

_STAGE = re.compile(r"(?P<name>\S+?)(?P<neck>\(neck\))? (?P<ranges>\S+)")


def examine(job: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the line of one model, with the names of its parameters.

    Args:
        job: The fields of a `ZooModel`.
    """
    from benchmarks.zoo.models import ZooModel, build
    from freezekit import FreezekitError
    from freezekit.staging.stages import find_stages

    text = ZooModel(**job).text
    line = dict(job)
    try:
        model = build(text)
        names = [name for name, _ in model.named_parameters()]
        line |= {"status": "staged", "parameters": names, **compact(names, find_stages(model))}
    except FreezekitError as error:
        line |= {"status": "refused", "reason": f"{type(error).__name__}: {error}"}
    except Exception as error:  # noqa: BLE001  # whatever a library's model raises
        line |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:500]}
    gc.collect()
    return line


def compact(names: Sequence[str], stages: Sequence[Stage]) -> dict[str, str]:
    """Return what the golden file says of a model.

    Args:
        names: Its parameters, in registration order.
        stages: Its stages.

    Returns:
        stages: each stage with the places that its parameters have in `names`; names: a digest of
        `names`; rest: a digest of the buffers, modules and output layouts of the stages.

    Example:
        >>> from freezekit import Stage
        >>> stages = [Stage("stem", "stem", ("a", "c", "d")), Stage("head", "head", ("b",))]
        >>> compact(["a", "b", "c", "d"], stages)["stages"]
        'stem 0,2-3 | head 1'
    """
    places = {name: at for at, name in enumerate(names)}
    told = [
        f"{stage.name}{'(neck)' * (stage.kind == 'neck')} "
        f"{_ranges(places[name] for name in stage.parameters)}"
        for stage in stages
    ]
    rest = [(stage.buffers, stage.modules, stage.resolution) for stage in stages]
    return {"stages": " | ".join(told), "names": _digest(names), "rest": _digest(map(str, rest))}


def expanded(stages: str, names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the parameters of each stage, from what `compact` made of them.

    Raises:
        ValueError: The text is no such line.

    Example:
        >>> expanded("stem 0,2-3 | fuse(neck) - | head 1", ["a", "b", "c", "d"])
        {'stem': ('a', 'c', 'd'), 'fuse(neck)': (), 'head': ('b',)}
    """
    found = {}
    for part in stages.split(" | "):
        match = _STAGE.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is no stage with its ranges, such as 'layer1 3-14'")
        name = match["name"] + (match["neck"] or "")
        found[name] = tuple(names[at] for at in _places(match["ranges"]))
    return found


def _ranges(places: Iterable[int]) -> str:
    """Write ascending numbers as ranges.

    Example:
        >>> _ranges([0, 1, 2, 7, 9, 10]), _ranges([])
        ('0-2,7,9-10', '-')
    """
    runs: list[list[int]] = []
    for place in sorted(places):
        if runs and runs[-1][1] == place - 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    return ",".join(f"{a}-{b}" if a < b else f"{a}" for a, b in runs) or "-"


def _places(ranges: str) -> list[int]:
    found: list[int] = []
    for part in ranges.split(",") if ranges != "-" else ():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]
