"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from freezekit.cli.completion import complete_plugin, complete_spec

if TYPE_CHECKING:
    from collections.abc import Callable

block_option = click.option(
    "--block",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_plugin,
    help="Do not load this plugin or distribution (also FREEZEKIT_BLOCK=NAME,NAME).",
)

DEFAULT_SPECS = (
    "full",
    "head-only",
    "first-n-stages:n=2",
    "by-name:contains=bn",
    "batch-norm",
    "discriminative-lr:decay=0.5,freeze_below=0.1",
)

strategies_option = click.option(
    "-s",
    "--strategy",
    "specs",
    multiple=True,
    metavar="SPEC",
    shell_complete=complete_spec,
    help="A strategy to look at beside `full`; may be given several times. ' + ' unites what "
    "strategies freeze, ' | ' what they train: 'norm-only | bias-only'. Default: "
    f"{', '.join(DEFAULT_SPECS[1:-1])} and {DEFAULT_SPECS[-1]}.",
)

# Spelled out: the list in `report.formats` takes long to import, and a test compares the two.
OUTPUT_HELP = (
    "Write .json, .csv, .md or .html, or for services .bencher.json or .github.json (for "
    "github-action-benchmark); may be given several times. Only files that freezekit wrote are "
    "replaced."
)

_WORKLOAD = (
    click.option(
        "--image-size", type=click.IntRange(min=1), help="Pixels; default: the model's own."
    ),
    click.option("--num-classes", type=click.IntRange(min=1), help="Default: the model's own."),
    click.option("--pretrained", is_flag=True, help="Load the library's default weights."),
    click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16", "float16", "float64"]),
        default="float32",
        show_default=True,
        help="Of weights and images.",
    ),
    click.option(
        "--amp", type=click.Choice(["bfloat16", "float16"]), help="Autocast to this type."
    ),
    click.option(
        "--optimizer", type=click.Choice(["sgd", "adamw", "adam"]), default="sgd", show_default=True
    ),
    click.option(
        "--channels-last", is_flag=True, help="Weights and images in channels-last layout."
    ),
    click.option("--loss", metavar="FILE.py:FUNCTION", help="From the model's output to a scalar."),
    click.option("--seed", type=int, default=0, show_default=True),
)


def workload_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe a training step, but for its batch size."""
    for option in reversed(_WORKLOAD):
        command = option(command)
    return command
