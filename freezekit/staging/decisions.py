"""What the staging rules decided for a model, and why: data, with the reasons as sentences."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Opening:
    """A module that was replaced by its parts, because they belong to several stages.

    Attributes:
        module: Dotted name.
        because: Why it was opened.
    """

    module: str
    because: str


@dataclass(frozen=True)
class LateUse:
    """A parameter that eval mode does not use.

    Attributes:
        name: Dotted name.
        stage: Index of the stage that it was given to.
        because: Why it was given to that stage.
        used: Whether train mode uses it.
    """

    name: str
    stage: int
    because: str
    used: bool = True


@dataclass(frozen=True)
class Dependence:
    """A stage has an output that depends on a parameter of a later stage.

    Attributes:
        first: Index of the stage that has the output.
        last: Index of the latest stage that the output depends on.
        consumer: Dotted name of the module that returns the output.
        parameter: Dotted name of a parameter of the later stage that the output depends on.
    """

    first: int
    last: int
    consumer: str
    parameter: str


@dataclass(frozen=True)
class Merge:
    """Stages that became one, because the first of them depends on the last.

    Attributes:
        stages: Names of the stages before the merge, in order.
        result: Name of the stage that they became; "" where they are all that there are, so that
            the model cannot be staged.
        consumer: Dotted name of the module whose output depends on a later stage.
        parameter: Dotted name of a parameter of the last of the stages that the output depends on.
    """

    stages: tuple[str, ...]
    result: str
    consumer: str
    parameter: str
