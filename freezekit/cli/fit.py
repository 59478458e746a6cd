"""`freezekit fit`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from freezekit.bench.selection import LEAN_CHOICES, choose
from freezekit.cli.completion import complete_model
from freezekit.cli.lean_option import METAVAR, LeanRowsType, check_eager
from freezekit.cli.options import (
    DEFAULT_SPECS,
    block_option,
    output_option,
    storable,
    strategies_option,
    threads_option,
    workload_options,
)
from freezekit.errors import CompareError, ExitCode
from freezekit.fit.margin import COUNTED_MARGIN, CUDA_MARGIN, MARGIN, UNCHECKED_MARGIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.fit.records import Fit
    from freezekit.results.records import Result, Workload

NOT_OF_SPEED = ("batch_size", "input_shape", "pretrained", "seed")
"""Fields of the workload that may differ in a bench run whose speeds are shown."""


@click.command()
@click.argument("model", metavar="MODEL", shell_complete=complete_model)
@strategies_option
@click.option(
    "--memory",
    metavar="SIZE",
    help="Such as 8GiB or 500MB. Default: what is free on the device, or on the machine.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    callback=storable,
    help="Ask whether this batch fits.",
)
@click.option(
    "--lean",
    type=LeanRowsType(),
    metavar=METAVAR,
    default="both",
    show_default=True,
    help="Stock PyTorch, lean, or both. budget:2GiB: lean, and backward computes again what does "
    "not fit into that memory.",
)
@click.option(
    "--cache",
    type=click.Choice(LEAN_CHOICES),
    default="off",
    show_default=True,
    help="Steps on features of `frozen.cache` in place of images, on images, or both; not of "
    "`full`. The features are no part of the memory: they may stay in a folder.",
)
@click.option(
    "--compile",
    "compiled",
    type=click.Choice(LEAN_CHOICES),
    default="off",
    show_default=True,
    help="Steps through torch.compile, eager ones, or both. What compiled steps take is not "
    "predicted: each batch that is tried is compiled and run, and no margin is left. That takes "
    "minutes a row.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    callback=storable,
    help="Samples of the data set: tells how large its cache is, with --cache.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    callback=storable,
    show_default=f"{100 * COUNTED_MARGIN:g} in float32 on the CPU, {100 * MARGIN:g} in half "
    f"precision there, {100 * CUDA_MARGIN:g} on CUDA, {100 * UNCHECKED_MARGIN:g} on a CPU where "
    "real convolutions take other memory than predicted",
    metavar="PERCENT",
    help="The part of the predicted peak that is left free for memory that is not counted.",
)
@click.option(
    "--verify",
    is_flag=True,
    help="Run a real step of the answer, and one of the next larger batch.",
)
@click.option(
    "--timing",
    metavar="FILE.json",
    help="A bench result of the same step: shows images per second.",
)
@output_option("Write .json or .md; may be given several times. Only files of `fit` are replaced.")
@workload_options
@threads_option
@block_option
def fit(
    model: str,
    specs: tuple[str, ...],
    memory: str | None,
    batch_size: int | None,
    lean: Any,
    cache: Any,
    compiled: Any,
    samples: int | None,
    margin: float | None,
    verify: bool,
    timing: str | None,
    outputs: tuple[str, ...],
    threads: int | None,
    block: tuple[str, ...],
    **options: Any,
) -> None:
    """Find the largest batch that fits into a memory, for each strategy.

    Peaks are predicted under fake tensors, in seconds. No step of the model is run without
    --verify or --compile. MODEL is as in `freezekit bench`.

    Exit codes: 0 all answered, 1 a real step of --verify did not fit, 2 wrong usage, 4 a strategy
    failed, 130 interrupted.

    \b
    Examples:
      freezekit fit torchvision:resnet50 --memory 8GiB
      freezekit fit timm:vit_small_patch16_224 --memory 4GiB -s full --verify
      freezekit fit torchvision:resnet50 --memory 8GiB --batch-size 64
      freezekit fit torchvision:resnet50 --memory 2GiB -s bias-only --compile both
      freezekit fit timm:resnet14t -s head-only --cache both --samples 1000000
    """  # noqa: D301  # click reads the character
    from freezekit.cli.progress import progress
    from freezekit.fit.run import FitOptions, FitRun
    from freezekit.plugins.registering import load_registry
    from freezekit.report.formats import FIT_FORMATS
    from freezekit.report.output import check_replaceable, check_writable
    from freezekit.results.locking import locked
    from freezekit.results.records import MOST, Workload
    from freezekit.results.sizes import read_bytes

    if samples is not None and cache == "off":
        raise click.UsageError("--samples tells the size of a cache: give --cache too")
    check_eager(lean.budget, compiled=compiled != "off")
    for path in outputs:
        check_writable(path, FIT_FORMATS)
    memory_bytes = None if memory is None else read_bytes(memory)
    if memory_bytes is not None and memory_bytes > MOST:
        raise click.BadParameter(
            f"{memory} is more than any machine has; give such as 8GiB", param_hint="'--memory'"
        )
    workload = Workload(model, **options)
    find_timing = partial(_find_timing, timing, _timed_runs(timing))
    find_timing(workload)  # before the model is built: most mismatches show now
    how = FitOptions(
        variants=lean.of(
            choose(specs or DEFAULT_SPECS, load_registry(block), lean.kind, cache, compiled)
        ),
        memory_bytes=memory_bytes,
        margin=None if margin is None else margin / 100,
        batch_size=batch_size,
        samples=samples,
        verify=verify,
        block=block,
        threads=threads,
    )
    with locked(outputs):
        for path in outputs:
            check_replaceable(path, FIT_FORMATS)
        with progress(model) as show:
            run = FitRun(workload, how, show, check=find_timing)
            try:
                run.find()
                code = ExitCode.OK
            except KeyboardInterrupt:
                code = ExitCode.INTERRUPTED
        known = run.result.workload
        _show(run.result, find_timing(known) if known.input_shape else (), outputs)
    if code == ExitCode.INTERRUPTED:
        click.echo("interrupted; rows without a figure were not predicted", err=True)
    elif any(row.status != "ok" for row in run.result.rows):
        code = ExitCode.PART_FAILED
    elif any(run.result.held(row) is False for row in run.result.rows):
        code = ExitCode.CHECK_FAILED
    click.get_current_context().exit(code)


def _timed_runs(path: str | None) -> list[Result]:
    from freezekit.results.store import load

    if path is None:
        return []
    found = [run for run in load(path) if any(row.time for row in run.rows)]
    if not found:
        raise CompareError(
            f"{path!r} holds no step times: --timing needs a run of `freezekit bench` "
            "without --static"
        )
    return found


def _find_timing(path: str | None, runs: Sequence[Result], step: Workload) -> tuple[Result, ...]:
    """Return the runs of that step at any batch size; none without --timing."""
    from freezekit.compare.pairing import find_runs

    return find_runs(runs, step, repr(path), NOT_OF_SPEED) if path else ()


def _show(result: Fit, timing: Sequence[Result], outputs: tuple[str, ...]) -> None:
    from rich.console import Console, Group

    from freezekit.report.fit_table import FitReport, fit_lines
    from freezekit.report.formats import FIT_FORMATS
    from freezekit.report.output import write

    console = Console(highlight=False, emoji=False)
    report = FitReport(result, tuple(timing))
    console.print(Group(*fit_lines(report, console.width, console.encoding)))
    write(report, FIT_FORMATS, *outputs)
