"""A choice as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.errors import some
from freezekit.results.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.budget.records import Choice


def described(choice: Choice | None, budget_bytes: int) -> str:
    """Say what is computed again, for a report.

    Example:
        >>> described(None, 2**31)
        'a step has 2 GiB, and the first forward chooses what is computed again'
        >>> from freezekit.budget.records import Choice, Predicted
        >>> plain, less = Predicted((), 900, 1000), Predicted(("blocks.0", "blocks.1"), 700, 1110)
        >>> described(Choice(plain, plain, 1024), 1024)
        'a step has 1 KiB and takes 900 B: nothing is computed again'
        >>> print(described(Choice(less, plain, 800), 800))
        a step has 800 B and takes 700 B: 2 modules are computed again, +11 % FLOPs: 'blocks.0', ...
    """
    has = f"a step has {size_text(budget_bytes)}"
    if choice is None:
        return f"{has}, and the first forward chooses what is computed again"
    text = f"{has} and takes {size_text(choice.step.peak_bytes)}"
    text += "" if choice.fits else ", which does not fit"
    names = choice.step.names
    text += f": {computed_again(names)}"
    return f"{text}, +{100 * choice.more_flops:.0f} % FLOPs: {some(names)}" if names else text


def computed_again(names: Sequence[str]) -> str:
    """Say how many modules are computed again.

    Example:
        >>> computed_again(()), computed_again(("blocks.0",))
        ('nothing is computed again', '1 module is computed again')
    """
    if not names:
        return "nothing is computed again"
    return f"{len(names)} module{'s are' if len(names) > 1 else ' is'} computed again"
