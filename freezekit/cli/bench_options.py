"""The options of `freezekit bench`."""

from __future__ import annotations

import click

from freezekit.bench.selection import LEAN_CHOICES
from freezekit.cli.completion import complete_schedule
from freezekit.cli.gates import fail_if_option
from freezekit.cli.lean_option import METAVAR, LeanRowsType
from freezekit.cli.options import (
    EPOCHS,
    OUTPUT_HELP,
    block_option,
    engine_options,
    output_option,
    storable,
    strategies_option,
    threads_option,
    with_options,
    workload_options,
)

DEFAULT_BUDGET_SECONDS = 75.0
STEPS_PER_EPOCH = 100  # of a schedule's run, if none are given

bench_options = with_options(
    strategies_option,
    click.option(
        "--schedule",
        "schedules",
        multiple=True,
        metavar="TEXT",
        shell_complete=complete_schedule,
        help="A training to measure as a whole, beside one of `full`: a schedule, or strategies "
        "one after the other as in 'head-only then full at 50%'; may be given several times. "
        "Each plan of it is measured as a strategy is. Without -s, only `full` is measured "
        "beside it.",
    ),
    click.option(
        "--epochs",
        type=click.IntRange(min=1),
        callback=storable,
        help=f"Epochs of the training, with --schedule.  [default: {EPOCHS}]",
    ),
    click.option(
        "--steps-per-epoch",
        type=click.IntRange(min=1),
        callback=storable,
        help="Optimizer steps of an epoch, with --schedule. They weigh the phases, and are not all "
        f"run.  [default: {STEPS_PER_EPOCH}]",
    ),
    output_option(
        f"{OUTPUT_HELP} A complete run in a .json file stays there until the new run is complete.",
    ),
    click.option(
        "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, callback=storable
    ),
    workload_options,
    click.option(
        "--budget",
        type=click.FloatRange(min=0),
        callback=storable,
        show_default=f"{DEFAULT_BUDGET_SECONDS:.0f}, twice that with each --lean both, --cache "
        "both or --compile both",
        metavar="SECONDS",
        help="The time to aim at, for each model. Step times get what the memory figures leave, "
        "and always enough for an estimate. 0: no limit, the full protocol.",
    ),
    click.option(
        "--lean",
        type=LeanRowsType(),
        metavar=METAVAR,
        default="off",
        show_default=True,
        help="Keep between forward and backward only what gradients need. on: in every row "
        "except the baseline, which is stock `full`. both: in a second row for each strategy. "
        "budget:2GiB: as on, and backward computes again what does not fit into that memory.",
    ),
    click.option(
        "--cache",
        type=click.Choice(LEAN_CHOICES),
        default="off",
        show_default=True,
        help="Take features of `frozen.cache`, in memory, in place of images. on: in every row "
        "except `full`. both: in a second row for each strategy, with the time to fill the cache "
        "and the number of epochs after which it pays. Reading a data set is no part of it. "
        "Schedules take images.",
    ),
    click.option(
        "--compile",
        "compiled",
        type=click.Choice(LEAN_CHOICES),
        default="off",
        show_default=True,
        help="Run the model through torch.compile, and tell the time to compile apart from that "
        "of steps. on: in every row except the baseline, which is eager `full`. both: in a "
        "second row for each strategy. To compile takes from seconds to minutes a row. Schedules "
        "are not compiled.",
    ),
    fail_if_option,
    click.option(
        "--baseline",
        metavar="FILE.json",
        type=click.Path(),
        help="An earlier result. The new one is compared with it, and conditions can refer to it.",
    ),
    click.option(
        "--resume",
        is_flag=True,
        help="Keep what the output .json holds, and measure only what is missing there. Rows of "
        "another model file, plugin, plan, thread count or version are measured again.",
    ),
    click.option("--static", "static_only", is_flag=True, help="Only figures that need no run."),
    click.option("--explain", is_flag=True, help="Print all notes, and what the columns mean."),
    engine_options,
    threads_option,
    block_option,
)
"""All but the models."""
