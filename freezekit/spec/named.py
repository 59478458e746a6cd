"""What strategies and schedules have in common: a name, a summary, and options."""

from __future__ import annotations

from typing import ClassVar


class Named:
    """A class that a plugin provides and that a text can name. Its fields are its options.

    Attributes:
        name: Its name in a text: lower case, with hyphens.
        summary: One line for the lists of the command line.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
