"""`freezekit plugins`: the list of plugins, and a new one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from freezekit.cli.columns import print_columns
from freezekit.cli.named import print_notes
from freezekit.cli.options import block_option
from freezekit.errors import ExitCode, NewPluginError

if TYPE_CHECKING:
    from freezekit.plugins.loading import PluginRecord


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--strict", is_flag=True, help="Exit with code 1 if a plugin failed.")
@block_option
@click.pass_context
def plugins(ctx: click.Context, as_json: bool, strict: bool, block: tuple[str, ...]) -> None:
    """List plugins, or write a new one.

    The list shows each plugin's distribution, version and status, and the strategies and schedules
    that it provides. A plugin that failed is described below the list, with the reason.
    """
    if ctx.invoked_subcommand is not None:
        return
    from freezekit.plugins.registering import load_registry

    registry = load_registry(block)
    failed = [record for record in registry.plugins if record.status == "failed"]
    if as_json:
        records = [vars(record) for record in registry.plugins]
        click.echo(json.dumps({"plugins": records, "notes": registry.notes}, indent=2))
    else:
        print_columns(
            ("plugin", "distribution", "version", "status", "provides"),
            (
                (
                    p.name,
                    p.distribution,
                    p.version,
                    p.status,
                    ", ".join((*p.strategies, *p.schedules, *p.metrics)),
                )
                for p in registry.plugins
            ),
        )
        for record in failed:
            click.echo("\n" + _failure(record))
        print_notes(registry)
    if strict and failed:
        ctx.exit(ExitCode.CHECK_FAILED)


@plugins.command()
@click.argument("name")
@click.option("--schedule", "is_schedule", is_flag=True, help="Provide a schedule, not a strategy.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to.  [default: a new folder NAME]",
)
def new(name: str, is_schedule: bool, folder: Path | None) -> None:
    """Write a plugin that provides a strategy NAME, or a schedule.

    The plugin is complete: a module, a test, a README and a pyproject.toml. It can be installed
    and tested as it is. No file is overwritten.
    """
    from freezekit.plugins.registering import load_registry
    from freezekit.plugins.scaffold import SCHEDULE, STRATEGY, write_plugin

    registry = load_registry()
    for kind, taken in (("strategy", registry.strategies), ("schedule", registry.schedules)):
        if name in taken:
            plugin = taken[name].plugin
            raise NewPluginError(
                f"a {kind} {name!r} already exists, provided by {plugin.distribution} "
                f"{plugin.version}; give another name"
            )
    content = SCHEDULE if is_schedule else STRATEGY
    folder = folder or Path(name)
    for path in write_plugin(name, folder, content):
        click.echo(f"wrote {path}")
    click.echo(
        f"\nNext:\n  cd {folder}\n  pip install -e '.[test]'\n  freezekit {content.kinds} {name}\n"
        f"  {content.try_it.replace('NAME', name)}\n  pytest"
    )


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
