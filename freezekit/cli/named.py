"""`freezekit strategies` and `freezekit schedules`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from freezekit.cli.columns import print_columns
from freezekit.cli.completion import complete_schedule_name, complete_strategy
from freezekit.cli.described import as_data, print_described
from freezekit.cli.options import block_option

if TYPE_CHECKING:
    from freezekit.plugins.loading import Kind
    from freezekit.plugins.registry import Registry


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
    from freezekit.plugins.loading import STRATEGY

    _list(STRATEGY, name, as_json, block)


@click.command()
@click.argument("name", required=False, shell_complete=complete_schedule_name)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@block_option
def schedules(name: str | None, as_json: bool, block: tuple[str, ...]) -> None:
    """List schedules, or describe one.

    A schedule decides, as training goes on, what is frozen next. The description says what it does
    and lists its options. It ends with an example.

    Strategies one after the other are a schedule too: 'head-only then batch-norm at 1ep then full
    at 50%'. Each phase but the first has a time: epochs ('1ep', '0.5ep'), optimizer steps
    ('500step') or a share of the whole run ('50%'), counted from the beginning of the training.
    'then' and 'at' need a space on each side. `freezekit show MODEL --schedule TEXT` shows the
    phases.
    """
    from freezekit.plugins.loading import SCHEDULE

    _list(SCHEDULE, name, as_json, block)


def _list(kind: Kind, name: str | None, as_json: bool, block: tuple[str, ...]) -> None:
    """List the classes of a kind, or describe one."""
    from freezekit.plugins.loading import STRATEGY
    from freezekit.plugins.registering import load_registry

    registry = load_registry(block)
    is_strategy = kind is STRATEGY
    if name is not None:
        found = registry.find(name) if is_strategy else registry.find_schedule(name)
        if as_json:
            click.echo(json.dumps(as_data(found), indent=2))
        else:
            print_described(found, kind)
        return
    listed = (registry.strategies if is_strategy else registry.schedules).items()
    if as_json:
        data = [as_data(each) for _, each in listed]
        click.echo(json.dumps({kind.plural: data, "notes": registry.notes}, indent=2))
        return
    print_columns(
        (kind.word, "summary", "from"),
        (
            (name, each.cls.summary, f"{each.plugin.distribution} {each.plugin.version}")
            for name, each in listed
        ),
    )
    print_notes(registry)
    failed = sum(record.status == "failed" for record in registry.plugins)
    if failed:
        click.echo(f"note: {failed} plugin(s) failed; 'freezekit plugins' says why", err=True)


def print_notes(registry: Registry) -> None:
    """Print what the user should know of the plugins."""
    for note in registry.notes:
        click.echo(f"note: {note}", err=True)
    if not registry.plugins:
        click.echo(
            "note: there are no plugins; install freezekit (from a clone: pip install -e .)",
            err=True,
        )
