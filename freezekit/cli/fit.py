"""`freezekit fit`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from freezekit.bench.selection import LEAN_CHOICES, choose
from freezekit.cli.bench import DEFAULT_SPECS
from freezekit.cli.completion import complete_model, complete_spec
from freezekit.cli.options import block_option, workload_options
from freezekit.fit.run import COUNTED_MARGIN, CUDA_MARGIN, MARGIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.fit.run import Fit
    from freezekit.results.records import Result, Workload

DID_NOT_HOLD = 1
STRATEGY_FAILED = 4
INTERRUPTED = 130
NOT_OF_SPEED = ("batch_size", "input_shape", "pretrained", "seed")
"""Fields in which a bench run may differ whose speeds are shown."""


@click.command()
@click.argument("model", metavar="MODEL", shell_complete=complete_model)
@click.option(
    "-s",
    "--strategy",
    "specs",
    multiple=True,
    metavar="SPEC",
    shell_complete=complete_spec,
    help="May be given several times; default: `full` and those of `freezekit bench`.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    help="Such as 8GiB or 500MB; default: what the device, or the machine, has free.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Ask whether this batch fits.")
@click.option(
    "--lean",
    type=click.Choice(LEAN_CHOICES),
    default="both",
    show_default=True,
    help="Stock PyTorch, lean, or both.",
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    show_default=f"{100 * COUNTED_MARGIN:g} in float32 on the CPU, {100 * MARGIN:g} in half "
    f"precision there, {100 * CUDA_MARGIN:g} on CUDA",
    metavar="PERCENT",
    help="Of the predicted peak, left free for the allocator.",
)
@click.option("--verify", is_flag=True, help="Run real steps of the answer and of the next batch.")
@click.option(
    "--timing", metavar="FILE.json", help="A bench result of the same step, for images a second."
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FILE",
    type=click.Path(),
    help="Write .json or .md; may be given several times. A file that is no fit is not replaced.",
)
@workload_options
@click.option("--threads", type=click.IntRange(min=1), help="Default: torch's own choice.")
@block_option
def fit(
    model: str,
    specs: tuple[str, ...],
    memory: str | None,
    batch_size: int | None,
    lean: Any,
    margin: float | None,
    verify: bool,
    timing: str | None,
    outputs: tuple[str, ...],
    threads: int | None,
    block: tuple[str, ...],
    **options: Any,
) -> None:
    """Tell the largest batch that fits into a memory, strategy by strategy.

    Predicted under fake tensors, in seconds: nothing is run unless --verify asks for it. Exit
    codes: 0, 1 a real step of --verify took more than there is, 2 wrong usage, 4 a strategy failed.

    \b
    Examples:
      freezekit fit torchvision:resnet50 --memory 8GiB
      freezekit fit timm:vit_small_patch16_224 --memory 4GiB -s full --verify
      freezekit fit torchvision:resnet50 --memory 8GiB --batch-size 64
    """  # noqa: D301  # click reads the character
    from freezekit.cli.progress import progress
    from freezekit.fit.run import FitOptions, FitRun
    from freezekit.plugins.registry import load_registry
    from freezekit.report.formats import FIT_FORMATS
    from freezekit.report.output import check_replaceable, check_writable
    from freezekit.results.locking import locked
    from freezekit.results.records import Workload
    from freezekit.results.sizes import read_bytes

    for path in outputs:
        check_writable(path, FIT_FORMATS)
    workload = Workload(model, **options)
    find_timing = partial(_find_timing, timing, _timed_runs(timing))
    find_timing(workload)  # what can be told before the model is there
    how = FitOptions(
        variants=choose(specs or DEFAULT_SPECS, load_registry(block), lean),
        memory_bytes=None if memory is None else read_bytes(memory),
        margin=None if margin is None else margin / 100,
        batch_size=batch_size,
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
                code = 0
            except KeyboardInterrupt:
                code = INTERRUPTED
        known = run.result.workload
        _show(run.result, find_timing(known) if known.input_shape else (), outputs)
    if code == INTERRUPTED:
        click.echo("interrupted; rows without a figure were not asked", err=True)
    elif any(row.status != "ok" for row in run.result.rows):
        code = STRATEGY_FAILED
    elif any(run.result.held(row) is False for row in run.result.rows):
        code = DID_NOT_HOLD
    click.get_current_context().exit(code)


def _timed_runs(path: str | None) -> list[Result]:
    from freezekit.errors import CompareError
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
    """Return the runs of that step, whatever their batch size; none where none was asked for."""
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
