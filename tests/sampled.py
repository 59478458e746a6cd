"""Some cases of many that test one rule: the others run with `--exhaustive` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable


def sampled(cases: Iterable[Any], every: int) -> list[Any]:  # Any: arguments of a test
    """Return the cases; all but the first of each `every` are marked as exhaustive."""
    return [case if at % every == 0 else exhaustive(case) for at, case in enumerate(cases)]


def exhaustive(case: Any) -> Any:
    """Return a case that runs with `--exhaustive` alone."""
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.exhaustive)
