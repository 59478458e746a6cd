"""A metric of a validation, which a plugin or a user provides; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Metric:
    """A figure of the outputs for all validation samples.

    Attributes:
        name: Its name in results.
        function: From the logits, a tensor of shape (samples, classes), and the numbers of the
            classes, a tensor of shape (samples,), to a number.
        higher_is_better: Whether higher values are better.
        origin: The plugin that provides it, in words; "" without one. freezekit sets it.

    Example:
        >>> errors = Metric("errors", lambda logits, labels: (logits.argmax(1) != labels).sum(),
        ...                 higher_is_better=False)
        >>> errors.name
        'errors'
    """

    name: str
    function: Callable[[Any, Any], Any]  # Any: tensors, without torch here; and any number
    higher_is_better: bool = True
    origin: str = ""
