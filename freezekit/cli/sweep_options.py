"""The options of `freezekit sweep`."""

from __future__ import annotations

import click

from freezekit.cli.completion import complete_schedule, complete_spec
from freezekit.cli.duration import DurationType
from freezekit.cli.gates import fail_if_option_of_sweep
from freezekit.cli.lean_option import METAVAR, LeanRowsType
from freezekit.cli.options import block_option, output_option, storable, with_options
from freezekit.cli.training_options import DATA_OPTIONS, RECIPE_OPTIONS

EPOCHS = 5


sweep_options = with_options(
    *DATA_OPTIONS,
    click.option(
        "-s",
        "--strategy",
        "specs",
        multiple=True,
        metavar="SPEC",
        shell_complete=complete_spec,
        help="A strategy to train beside `full`; may be given several times. Without -s and "
        "--schedule: head-only, first-n-stages:n=2 and 'head-only then full at 20%'.",
    ),
    click.option(
        "--schedule",
        "schedules",
        multiple=True,
        metavar="TEXT",
        shell_complete=complete_schedule,
        help="A schedule, or strategies one after the other as in 'head-only then full at 50%'; "
        "may be given several times.",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(min=1),
        callback=storable,
        help=f"Of each training.  [default: {EPOCHS}]",
    ),
    click.option(
        "--budget",
        type=DurationType(),
        metavar="TIME",
        help="In place of --epochs: the time of the whole sweep, such as 30min or 2h. Short probes "
        "tell how many epochs fit.",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(min=1, max=1000),
        default=3,
        show_default=True,
        help="Trainings of each candidate. With one there are no intervals.",
    ),
    click.option(
        "--lr",
        default="grid",
        show_default=True,
        metavar="RATES",
        help="grid: pilots choose one of three rates for each candidate, on training images that "
        "are held out. A number: that rate. Several with commas: that grid. auto: a range test in "
        "each training.",
    ),
    click.option(
        "--image-size",
        "image_sizes",
        type=click.IntRange(min=1),
        multiple=True,
        help="Pixels; may be given several times. Default: the model's own.",
    ),
    click.option(
        "--lean",
        type=LeanRowsType(),
        metavar=METAVAR,
        default="off",
        show_default=True,
        help="As in `freezekit bench`: memory differs, and the accuracy has the same bits.",
    ),
    *RECIPE_OPTIONS,
    click.option(
        "--metric",
        default="accuracy",
        show_default=True,
        metavar="NAME",
        help="What is compared: accuracy, balanced_accuracy, loss, a metric of a plugin, or "
        "file.py:function.",
    ),
    click.option(
        "--early-stopping/--no-early-stopping",
        default=True,
        show_default=True,
        help="Stop hopeless candidates after a quarter and after half of the epochs.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        callback=storable,
        show_default="1 on the CPU",
        help="For torch, in each training. Another number may give other bits.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(min=1),
        help="Trainings at the same time, at most. Default: as many as cores, memory and GPUs "
        "allow.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray", "slurm"]),
        default="local",
        show_default=True,
        help="Where trainings run. ray and slurm are extras: pip install 'freezekit[ray]'.",
    ),
    click.option(
        "--address",
        help="Of the Ray cluster, or the partition of Slurm. Default for Ray: one that is started "
        "here.",
    ),
    output_option(
        "Write .json, .csv, .md or .html; may be given several times. Only files that "
        "freezekit wrote are replaced.",
    ),
    fail_if_option_of_sweep,
    click.option("--explain", is_flag=True, help="Print all notes, and what the columns mean."),
    click.option(
        "--trials",
        metavar="DIR",
        help="Where answers and checkpoints are kept: a folder, or a URL of object storage for "
        "the checkpoints. Default: r.trials beside -o r.json.",
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Go on with what is in --trials: only what is missing is trained.",
    ),
    block_option,
)
"""All but the models."""
