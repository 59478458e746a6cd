"""`freezekit plugins` and `freezekit strategies`."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from freezekit.cli.completion import complete_strategy
from freezekit.cli.options import block_option
from freezekit.errors import ExitCode, NewPluginError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from freezekit.plugins.loading import PluginRecord
    from freezekit.plugins.registry import OfferedStrategy, Registry
    from freezekit.spec.strategy import Strategy


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--strict", is_flag=True, help="Leave with exit code 1 if a plugin failed.")
@block_option
@click.pass_context
def plugins(ctx: click.Context, as_json: bool, strict: bool, block: tuple[str, ...]) -> None:
    """List plugins, and what failed and why; or write a new one."""
    if ctx.invoked_subcommand is not None:
        return
    from freezekit.plugins.registry import load_registry

    registry = load_registry(block)
    failed = [record for record in registry.plugins if record.status == "failed"]
    if as_json:
        records = [vars(record) for record in registry.plugins]
        click.echo(json.dumps({"plugins": records, "notes": registry.notes}, indent=2))
    else:
        _print_table(
            ("plugin", "distribution", "version", "status", "strategies"),
            (
                (p.name, p.distribution, p.version, p.status, ", ".join(p.strategies))
                for p in registry.plugins
            ),
        )
        for record in failed:
            click.echo("\n" + _failure(record))
        _print_notes(registry)
    if strict and failed:
        ctx.exit(ExitCode.CHECK_FAILED)


@plugins.command()
@click.argument("name")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to; default: a folder of that name.",
)
def new(name: str, folder: Path | None) -> None:
    """Write a plugin with a strategy of this name: code, a test, and all to install it.

    Nothing that exists is overwritten.
    """
    from freezekit.plugins.registry import load_registry
    from freezekit.plugins.scaffold import write_plugin

    taken = load_registry().strategies.get(name)
    if taken is not None:
        origin = f"{taken.plugin.distribution} {taken.plugin.version}"
        raise NewPluginError(
            f"there is a strategy {name!r} already, of {origin}: give another name"
        )
    folder = folder or Path(name)
    for path in write_plugin(name, folder):
        click.echo(f"wrote {path}")
    click.echo(
        f"\nNow:\n  cd {folder}\n  pip install -e '.[test]'\n  freezekit strategies {name}\n"
        f"  freezekit bench -s {name}\n  pytest"
    )


@click.command()
@click.argument("name", required=False, shell_complete=complete_strategy)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@block_option
def strategies(name: str | None, as_json: bool, block: tuple[str, ...]) -> None:
    """List strategies, or tell all about one of them."""
    from freezekit.plugins.registry import load_registry

    registry = load_registry(block)
    if name is not None:
        offered = registry.find(name)
        if as_json:
            click.echo(json.dumps(_as_data(offered), indent=2))
        else:
            _print_strategy(offered)
        return
    if as_json:
        listed = [_as_data(offered) for offered in registry.strategies.values()]
        click.echo(json.dumps({"strategies": listed, "notes": registry.notes}, indent=2))
        return
    _print_table(
        ("strategy", "summary", "from"),
        (
            (name, offered.cls.summary, f"{offered.plugin.distribution} {offered.plugin.version}")
            for name, offered in registry.strategies.items()
        ),
    )
    _print_notes(registry)
    failed = sum(record.status == "failed" for record in registry.plugins)
    if failed:
        click.echo(f"note: {failed} plugin(s) failed; 'freezekit plugins' says why", err=True)


def _failure(record: PluginRecord) -> str:
    """Return all that is wrong with a plugin, and what to do about it."""
    from freezekit.plugins.discovery import OWN

    lines = [f"{record.name} ({record.distribution} {record.version}, {record.module}):"]
    lines += [f"  {error}" for error in record.errors]
    if record.distribution == OWN:
        lines.append("  freezekit's own: install it again (from a clone: pip install -e .)")
    else:
        lines.append(
            f"  to do: correct or update {record.distribution}, or leave this plugin out with "
            f"--block {record.name}"
        )
    return "\n".join(lines)


def _as_data(offered: OfferedStrategy) -> dict[str, object]:
    from freezekit.spec.options import option_infos

    plugin = offered.plugin
    return {
        "name": offered.cls.name,
        "summary": offered.cls.summary,
        "doc": _doc(offered.cls),
        "example": _example(offered.cls),
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
            for option in option_infos(offered.cls)
        ],
    }


def _print_strategy(offered: OfferedStrategy) -> None:
    from freezekit.spec.options import option_infos

    cls, plugin = offered.cls, offered.plugin
    click.echo(f"{cls.name}: {cls.summary}")
    click.echo(f"from {plugin.distribution} {plugin.version} ({plugin.module})\n")
    if doc := _doc(cls):
        click.echo(f"{_wrapped(doc)}\n")
    options = option_infos(cls)
    if options:
        _print_table(
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
        click.echo("It takes no options.")
    click.echo(f"\nAs a spec: {_example(cls)}")


def _doc(cls: type[Strategy]) -> str:
    doc = inspect.getdoc(cls) or ""
    return "" if doc.startswith(f"{cls.__name__}(") else doc  # what dataclass puts in its place


def _wrapped(doc: str) -> str:
    """Fit a docstring's prose to the terminal; what is indented (examples, lists) stays as is."""
    width = shutil.get_terminal_size().columns
    paragraphs = doc.split("\n\n")
    return "\n\n".join(
        text if re.search(r"^\s|^>>>", text, re.MULTILINE) else textwrap.fill(text, width)
        for text in paragraphs
    )


def _example(cls: type[Strategy]) -> str:
    """Return the first spec in the docstring that is good, else the form that a spec has."""
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


def _print_notes(registry: Registry) -> None:
    for note in registry.notes:
        click.echo(f"note: {note}", err=True)
    if not registry.plugins:
        click.echo("note: no plugins; is freezekit installed? (pip install -e .)", err=True)


def _print_table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows in columns; words wrap in the terminal's width, 80 where there is none."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in header:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
