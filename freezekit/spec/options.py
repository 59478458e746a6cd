"""The options of a strategy or a schedule: the fields of its dataclass."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, get_args, get_origin, get_type_hints

from freezekit.errors import PluginError
from freezekit.spec.option_types import SUPPORTED, OptionType, option_type, read_value, write_value

if TYPE_CHECKING:
    from freezekit.spec.named import Named


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """One option of a strategy or a schedule.

    Attributes:
        name: Its name in a spec.
        type: The type of its values.
        default: Its default, or `dataclasses.MISSING` if it is required.
        help: The text given with `Annotated`, or "".
    """

    name: str
    type: OptionType
    default: object
    help: str

    @property
    def required(self) -> bool:
        """Whether a spec must give it."""
        return self.default is dataclasses.MISSING

    @property
    def type_text(self) -> str:
        """Its type in words, such as "int", "float or none" or "str|..."."""
        return str(self.type)

    @property
    def default_text(self) -> str | None:
        """The text of its default in a spec; None if it is required."""
        return None if self.required else write_value(self.type, self.default)


def option_infos(cls: type[Named]) -> tuple[OptionInfo, ...]:
    """Return the options of a class, in the order of its fields.

    Raises:
        PluginError: The class is not a dataclass, or an option has a type that a spec cannot
            write, or a default that is not of its type.

    Example:
        >>> from dataclasses import dataclass
        >>> from freezekit import Strategy
        >>> @dataclass(frozen=True)
        ... class Demo(Strategy):
        ...     name = "demo"
        ...     n: Annotated[int, "how many"]
        ...     parts: tuple[str, ...] = ("a", "b")
        >>> for option in option_infos(Demo):
        ...     print(option.name, option.type_text, option.default_text, option.help)
        n int None how many
        parts str|... a|b
    """
    if not dataclasses.is_dataclass(cls):
        raise PluginError(f"class {cls.__qualname__!r} is not a dataclass")
    try:
        hints = get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise PluginError(
            f"the option types of {cls.__qualname__!r} cannot be resolved: {error}; import them "
            "at the top of the module, not under TYPE_CHECKING"
        ) from error
    fields = [field for field in dataclasses.fields(cls) if field.init]
    return tuple(_info(cls, field, hints[field.name]) for field in fields)


def _info(cls: type[Named], field: dataclasses.Field[object], hint: object) -> OptionInfo:
    whose = f"option {field.name!r} of {cls.__qualname__!r}"
    annotated = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    kind = option_type(annotated[0])
    if kind is None:
        raise PluginError(
            f"{whose} has the type {annotated[0]!r}, which a spec cannot write; expected "
            f"{SUPPORTED}"
        )
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if default is not dataclasses.MISSING and not _reads_back(kind, default):
        raise PluginError(f"{whose} has the default {default!r}, expected {kind.expected}")
    help_text = next((note for note in annotated[1:] if isinstance(note, str)), "")
    return OptionInfo(field.name, kind, default, help_text)


def _reads_back(kind: OptionType, value: object) -> bool:
    try:
        return read_value(kind, write_value(kind, value)) == value
    except ValueError:
        return False
