"""The option `--lean`, with or without a budget of memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import click

from freezekit.bench.selection import LEAN_CHOICES, Lean
from freezekit.errors import SizeError
from freezekit.results.lean_text import PREFIX, LeanChoice
from freezekit.results.sizes import read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit.results.variant import Variant

METAVAR = f"[{'|'.join(LEAN_CHOICES)}|{PREFIX}SIZE]"


@dataclass(frozen=True)
class LeanRows:
    """Which rows of a run are lean.

    Attributes:
        kind: As `freezekit.bench.selection.choose` takes it.
        budget: Text such as "budget:2GiB" in place of lean alone, or None.

    Example:
        >>> from freezekit.results.variant import Variant
        >>> lean = LeanRows("on", "budget:2GiB")
        >>> [row.label for row in lean.of([Variant("full"), Variant("full", lean=True)])]
        ['full', 'full [budget:2GiB]']
    """

    kind: Lean
    budget: str | None = None

    def of(self, variants: Iterable[Variant]) -> tuple[Variant, ...]:
        """Return the rows, the lean ones with the budget."""
        budget = self.budget
        return tuple(replace(v, lean=budget) if v.lean and budget else v for v in variants)


def check_eager(budget: object, *, compiled: bool) -> None:
    """Refuse a budget where rows are compiled.

    Raises:
        click.UsageError: There are both.

    Example:
        >>> check_eager("budget:2GiB", compiled=True)
        Traceback (most recent call last):
        ...
        click.exceptions.UsageError: torch.compile runs a model without a budget: leave out ...
    """
    if isinstance(budget, str) and compiled:
        raise click.UsageError(
            "torch.compile runs a model without a budget: leave out --compile, or give --lean "
            "without a budget"
        )


class LeanRowsType(click.ParamType[LeanRows]):
    """Reads off, on, both or budget:SIZE, for commands with several rows."""

    name = "lean"

    def convert(self, value: Any, param: Any, ctx: Any) -> LeanRows:  # Any: click's own
        """Return what was asked for."""
        if isinstance(value, LeanRows):
            return value
        if value in LEAN_CHOICES:
            return LeanRows(cast("Lean", value))
        if not value.startswith(PREFIX):
            choices = ", ".join(map(repr, LEAN_CHOICES))
            said = f"{value!r} is not one of {choices} or a budget such as budget:2GiB"
            self.fail(said, param, ctx)
        return LeanRows("on", _budget(self, value, param, ctx))


class LeanType(click.ParamType[LeanChoice]):
    """Reads on, off or budget:SIZE, for a command with one model."""

    name = "lean"

    def convert(self, value: Any, param: Any, ctx: Any) -> LeanChoice:  # Any: click's own
        """Return what `freeze_` takes."""
        if isinstance(value, bool):
            return value
        if value == "off":
            return False
        if value != "on" and not value.startswith(PREFIX):
            said = f"{value!r} is no budget such as budget:2GiB; --lean alone has none"
            self.fail(said, param, ctx)
        return value == "on" or _budget(self, value, param, ctx)


class LeanCommand(click.Command):
    """A command whose `--lean` may stand alone, also before an argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write `--lean` as `--lean=on` where no value follows it."""
        following = [*args[1:], ""]
        given = [
            "--lean=on"
            if arg == "--lean" and after not in ("on", "off") and not after.startswith(PREFIX)
            else arg
            for arg, after in zip(args, following, strict=True)
        ]
        return super().parse_args(ctx, given)


def _budget(
    kind: click.ParamType[Any], value: str, param: Any, ctx: Any
) -> str:  # Any: click's own
    try:
        read_bytes(value.removeprefix(PREFIX))
    except SizeError as error:
        kind.fail(f"{value!r}: {error}", param, ctx)
    return value
