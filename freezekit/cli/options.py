"""Options that several commands share."""

from __future__ import annotations

import click

block_option = click.option(
    "--block",
    multiple=True,
    metavar="NAME",
    help="Do not load this plugin or distribution (also FREEZEKIT_BLOCK=NAME,NAME).",
)
