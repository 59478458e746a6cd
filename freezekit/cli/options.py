"""Options that several commands share."""

from __future__ import annotations

import click

from freezekit.cli.completion import complete_plugin

block_option = click.option(
    "--block",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_plugin,
    help="Do not load this plugin or distribution (also FREEZEKIT_BLOCK=NAME,NAME).",
)
