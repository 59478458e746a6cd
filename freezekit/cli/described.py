"""The class of a strategy or a schedule: as text for people, and as data for JSON."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from typing import TYPE_CHECKING

import click

from freezekit.cli.columns import print_columns

if TYPE_CHECKING:
    from freezekit.plugins.loading import Kind
    from freezekit.plugins.registry import RegisteredSchedule, RegisteredStrategy
    from freezekit.spec.named import Named


def as_data(registered: RegisteredStrategy | RegisteredSchedule) -> dict[str, object]:
    """Return all that is known of a class, for JSON."""
    from freezekit.spec.options import option_infos

    cls, plugin = registered.cls, registered.plugin
    return {
        "name": cls.name,
        "summary": cls.summary,
        "doc": _doc(cls),
        "example": _example(cls),
        "plugin": {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
        },
        "options": [
            {
                "name": option.name,
                "type": option.type_text,
                "required": option.required,
                "default": option.default_text,
                "help": option.help,
            }
            for option in option_infos(cls)
        ],
    }


def print_described(registered: RegisteredStrategy | RegisteredSchedule, kind: Kind) -> None:
    """Print what a class does, its options and an example."""
    from freezekit.plugins.loading import STRATEGY
    from freezekit.spec.options import option_infos

    cls, plugin = registered.cls, registered.plugin
    click.echo(f"{cls.name}: {cls.summary}")
    click.echo(f"from {plugin.distribution} {plugin.version} ({plugin.module})\n")
    if doc := _doc(cls):
        click.echo(f"{_wrapped(doc)}\n")
    options = option_infos(cls)
    if options:
        print_columns(
            ("option", "takes", "default", "help"),
            (
                (
                    option.name,
                    option.type_text,
                    "(required)" if option.required else option.default_text or "(empty)",
                    option.help,
                )
                for option in options
            ),
        )
    else:
        click.echo("It has no options.")
    click.echo(f"\nAs a {'spec' if kind is STRATEGY else kind.word}: {_example(cls)}")


def _doc(cls: type[Named]) -> str:
    doc = inspect.getdoc(cls) or ""
    # A dataclass without a docstring gets its signature as one.
    return "" if doc.startswith(f"{cls.__name__}(") else doc


def _wrapped(doc: str) -> str:
    """Wrap the prose of a docstring to the terminal. Indented text (examples, lists) stays."""
    width = shutil.get_terminal_size().columns
    paragraphs = doc.split("\n\n")
    return "\n\n".join(
        text
        if re.search(r"^\s|^>>>", text, re.MULTILINE)
        else textwrap.fill(text, width, break_on_hyphens=False)  # `batch-norm` is one word
        for text in paragraphs
    )


def _example(cls: type[Named]) -> str:
    """Return the first valid spec in the docstring, else the form of a spec."""
    from freezekit.errors import FreezekitError
    from freezekit.spec.grammar import build, parse
    from freezekit.spec.options import option_infos

    for text in re.findall(rf"{re.escape(cls.name)}:[^\s\"'`]+", _doc(cls)):
        try:
            build(cls, parse(text)[0].options)
        except FreezekitError:
            continue
        return str(text)
    needed = [f"{o.name}=<{o.type_text}>" for o in option_infos(cls) if o.required]
    return f"{cls.name}:{','.join(needed)}" if needed else cls.name
