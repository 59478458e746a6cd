"""An option that is a time."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


class DurationType(click.ParamType[float]):
    """Reads a time such as 30min, 2h or 90s, in seconds."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:  # Any: click's own
        """Return seconds.

        Example:
            >>> DurationType().convert("1.5h", None, None)
            5400.0
        """
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)", value.strip())
        unit = _UNITS.get(found[2]) if found else None
        seconds = float(found[1]) * unit if found and unit else 0.0
        if not 0 < seconds <= 1e9:
            self.fail(f"{value!r} is no time; expected such as 90s, 30min or 2h", param, ctx)
        return seconds
