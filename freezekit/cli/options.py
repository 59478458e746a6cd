"""Options that several commands share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import click

from freezekit.cli.completion import complete_plugin, complete_schedule, complete_spec
from freezekit.results.records import MOST

if TYPE_CHECKING:
    from collections.abc import Callable

N = TypeVar("N", int, float, int | None, float | None)


def storable(ctx: click.Context, param: click.Parameter, value: N) -> N:  # noqa: ARG001  # click's
    """Refuse a number that result files do not hold; a callback of options.

    Raises:
        click.BadParameter: It has more than 64 bits, or is not finite.
    """
    if isinstance(value, int) and abs(value) > MOST:
        raise click.BadParameter(f"{value} has more than 64 bits; the largest is {MOST}")
    if isinstance(value, float) and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no finite number")
    return value


def with_options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a decorator that adds options to a command, in this order."""

    def add(command: Any) -> Any:  # Any: click's own
        for option in reversed(options):
            command = option(command)
        return command

    return add


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


def output_option(help_text: str) -> Callable[[Any], Any]:
    """Return `-o FILE`, which may be given several times."""
    return click.option(
        "-o",
        "--output",
        "outputs",
        multiple=True,
        metavar="FILE",
        type=click.Path(),
        help=help_text,
    )


image_size_option = click.option(
    "--image-size",
    type=click.IntRange(min=1),
    callback=storable,
    help="Pixels; default: the model's own.",
)

num_classes_option = click.option(
    "--num-classes",
    type=click.IntRange(min=1),
    callback=storable,
    help="Classes of the classifier; default: the model's own.",
)

seed_option = click.option("--seed", type=int, default=0, show_default=True, callback=storable)

workload_options = with_options(
    image_size_option,
    num_classes_option,
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
    seed_option,
)
"""A training step, but for its batch size."""


threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    callback=storable,
    help="Default: torch's own choice.",
)


engine_options = with_options(
    click.option(
        "--engine",
        "engine_name",
        type=click.Choice(["local", "ray", "slurm"]),
        help="Where it runs: in processes of this machine, on Ray (pip install 'freezekit[ray]'), "
        "or on Slurm (pip install 'freezekit[slurm]').",
    ),
    click.option(
        "--address",
        metavar="ADDRESS",
        help="Of the cluster, with --engine: HOST:PORT or auto for ray, which is started on this "
        "machine without; the partition for slurm.",
    ),
)
"""Where a command runs."""

EPOCHS = 10
"""Epochs of a schedule's run, if none are given."""

schedule_options = with_options(
    click.option(
        "--schedule",
        "schedule",
        metavar="TEXT",
        shell_complete=complete_schedule,
        help="What is frozen over time: a schedule, or strategies one after the other as in "
        "'head-only then full at 50%'. `freezekit schedules` lists the schedules.",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(min=1),
        callback=storable,
        help=f"Epochs of the run, with --schedule.  [default: {EPOCHS}]",
    ),
    click.option(
        "--steps-per-epoch",
        type=click.IntRange(min=1),
        callback=storable,
        help="Optimizer steps of an epoch, with --schedule; times such as '500step' need it.",
    ),
)
"""A schedule, and its run."""
