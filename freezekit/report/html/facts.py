"""What a result says of its machine, its workload and how it was made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from msgspec import to_builtins

from freezekit.report.formatting import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freezekit.results.records import Result

Facts = tuple[tuple[str, str], ...]
SHOWN_APART = ("command",)


def environment(result: Result) -> Facts:
    """Return the facts of machine and software, those that are known.

    Example:
        >>> from freezekit.results.records import Result, Workload
        >>> env = {"torch": "2.15.0", "cuda": None, "affinity": [0, 1]}
        >>> environment(Result("0.1.0", Workload("timm:resnet18"), env))
        (('freezekit', '0.1.0'), ('protocol', 'v1'), ('torch', '2.15.0'), ('affinity', '0, 1'))
    """
    env = {key: value for key, value in result.env.items() if key not in SHOWN_APART}
    return facts_of({"freezekit": result.freezekit, "protocol": result.protocol, **env})


def workload(result: Result) -> Facts:
    """Return what one training step was, and how many were timed."""
    work = to_builtins(result.workload)
    return facts_of(
        {**work, **{f"timing: {k}": v for k, v in (result.timing_design or {}).items()}}
    )


def command(result: Result) -> str | None:
    """Return the command that made a result, None where the file does not tell."""
    found = result.env.get("command")
    return plain(found) if isinstance(found, str) and found else None


def facts_of(found: Mapping[str, object]) -> Facts:
    """Return facts as text, those that are known.

    Example:
        >>> facts_of({"batch_size": 32, "amp": None, "seeds": (0, 1)})
        (('batch size', '32'), ('seeds', '0, 1'))
    """
    return tuple(
        (plain(key.replace("_", " ")), _text(value))
        for key, value in found.items()
        if value is not None
    )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)) and not any(isinstance(v, (list, dict)) for v in value):
        return ", ".join(map(_text, value))
    if isinstance(value, dict):
        return "; ".join(f"{plain(str(key))} {_text(inner)}" for key, inner in value.items())
    return plain(value if isinstance(value, str) else json.dumps(value))
