"""The code of the user's own model, plugin or loss, where a command runs it in its own process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from freezekit.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_exit(model: str) -> Iterator[None]:
    """Refuse that the code of a model ends the command, with an exit code of its own choice.

    Raises:
        ModelError: It called sys.exit().

    Example:
        >>> import sys
        >>> with no_exit("my.py:build"):
        ...     sys.exit(0)
        Traceback (most recent call last):
        ...
        freezekit.errors.ModelError: 'my.py:build': the code of the model ...
    """
    try:
        yield
    except SystemExit as error:
        raise ModelError(
            f"{model!r}: the code of the model or of a plugin left with sys.exit({error.code!r}) "
            "before the work was done; take that call out"
        ) from None
