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
    from freezekit.plugins.registry import RegisteredStrategy, Registry
    from freezekit.spec.strategy import Strategy


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--strict", is_flag=True, help="Exit with code 1 if a plugin failed.")
@block_option
@click.pass_context
def plugins(ctx: click.Context, as_json: bool, strict: bool, block: tuple[str, ...]) -> None:
    """List plugins, or write a new one.

    The list shows each plugin's distribution, version, status and strategies. A plugin that failed
    is described below the list, with the reason.
    """
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
    help="Folder to write to.  [default: a new folder NAME]",
)
def new(name: str, folder: Path | None) -> None:
    """Write a plugin that provides a strategy NAME.

    The plugin is complete: a module, a test, a README and a pyproject.toml. It can be installed
    and tested as it is. No file is overwritten.
    """
    from freezekit.plugins.registry import load_registry
    from freezekit.plugins.scaffold import write_plugin

    taken = load_registry().strategies.get(name)
    if taken is not None:
        origin = f"{taken.plugin.distribution} {taken.plugin.version}"
        raise NewPluginError(
            f"a strategy {name!r} already exists, provided by {origin}; give another name"
        )
    folder = folder or Path(name)
    for path in write_plugin(name, folder):
        click.echo(f"wrote {path}")
    click.echo(
        f"\nNext:\n  cd {folder}\n  pip install -e '.[test]'\n  freezekit strategies {name}\n"
        f"  freezekit bench -s {name}\n  pytest"
    )


@click.command()
@click.argument("name", required=False, shell_complete=complete_strategy)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@block_option
def strategies(name: str | None, as_json: bool, block: tuple[str, ...]) -> None:
    """List strategies, or describe one.

    The description says what the strategy does and lists its options. It ends with an example.

    ' + ' joins strategies and unites what they freeze. ' | ' joins strategies and unites what they
    train: 'norm-only | bias-only' trains norms and biases, and 'norm-only + bias-only' trains the
    biases of norms. Both need a space on each side, and ' + ' binds more closely.
    """
    from freezekit.plugins.registry import load_registry

    registry = load_registry(block)
    if name is not None:
        found = registry.find(name)
        if as_json:
            click.echo(json.dumps(_as_data(found), indent=2))
        else:
            _print_strategy(found)
        return
    if as_json:
        listed = [_as_data(each) for each in registry.strategies.values()]
        click.echo(json.dumps({"strategies": listed, "notes": registry.notes}, indent=2))
        return
    _print_table(
        ("strategy", "summary", "from"),
        (
            (name, each.cls.summary, f"{each.plugin.distribution} {each.plugin.version}")
            for name, each in registry.strategies.items()
        ),
    )
    _print_notes(registry)
    failed = sum(record.status == "failed" for record in registry.plugins)
    if failed:
        click.echo(f"note: {failed} plugin(s) failed; 'freezekit plugins' says why", err=True)


def _failure(record: PluginRecord) -> str:
    """Return the errors of a plugin, and what to do about them."""
    from freezekit.plugins.discovery import OWN

    lines = [f"{record.name} ({record.distribution} {record.version}, {record.module}):"]
    lines += [f"  {error}" for error in record.errors]
    if record.distribution == OWN:
        lines.append("  to do: install freezekit again (from a clone: pip install -e .)")
    else:
        lines.append(
            f"  to do: correct or update {record.distribution}, or go on without this plugin: "
            f"--block {record.name}"
        )
    return "\n".join(lines)


def _as_data(strategy: RegisteredStrategy) -> dict[str, object]:
    from freezekit.spec.options import option_infos

    cls, plugin = strategy.cls, strategy.plugin
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


def _print_strategy(strategy: RegisteredStrategy) -> None:
    from freezekit.spec.options import option_infos

    cls, plugin = strategy.cls, strategy.plugin
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
        click.echo("It has no options.")
    click.echo(f"\nAs a spec: {_example(cls)}")


def _doc(cls: type[Strategy]) -> str:
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


def _example(cls: type[Strategy]) -> str:
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


def _print_notes(registry: Registry) -> None:
    for note in registry.notes:
        click.echo(f"note: {note}", err=True)
    if not registry.plugins:
        click.echo(
            "note: there are no plugins; install freezekit (from a clone: pip install -e .)",
            err=True,
        )


def _print_table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows in columns. Cells wrap at the width of the terminal, or at 80 columns."""
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
