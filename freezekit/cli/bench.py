"""`freezekit bench`."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from freezekit.bench.selection import choose
from freezekit.cli.bench_options import DEFAULT_BUDGET_SECONDS, STEPS_PER_EPOCH, bench_options
from freezekit.cli.completion import complete_model, model_names
from freezekit.cli.lean_option import check_eager
from freezekit.cli.options import DEFAULT_SPECS, EPOCHS
from freezekit.errors import ModelError, OutputError

if TYPE_CHECKING:
    from freezekit.gate.judge import Gate
    from freezekit.results.records import Result

DEFAULT_MODEL = "torchvision:resnet18"
DEFAULT_IMAGE_SIZE = 128  # with the default model alone: quick on two cores


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=complete_model)
@bench_options
def bench(
    models: tuple[str, ...],
    specs: tuple[str, ...],
    schedules: tuple[str, ...],
    epochs: int | None,
    steps_per_epoch: int | None,
    outputs: tuple[str, ...],
    gates: tuple[Gate, ...],
    baseline: str | None,
    resume: bool,
    explain: bool,
    engine_name: str | None,
    address: str | None,
    **options: Any,
) -> None:
    """Compare strategies: memory and step time.

    MODEL is torchvision:NAME, timm:NAME, package.module:factory or path/to/file.py:factory.
    Without MODEL: torchvision:resnet18 at 128 px. Without -s: `full` and the defaults of -s;
    strategies that the model cannot take are left out, with a note. Images are synthetic.

    With --engine, models are measured on the hosts of a cluster: each with all its strategies on
    one host, so that ratios are of one machine, and one model at a time on each host.

    With --schedule: a whole training, beside as many steps of `full`. Memory is the highest peak of
    its phases, with the optimizer's state of all that was trained until then. Time and FLOPs are
    summed over the steps.

    Exit codes: 0 all measured and all conditions passed, 1 a --fail-if condition holds, 2 wrong
    usage, 3 too noisy to judge a condition, 4 a strategy or the process of a model failed (the
    other rows are valid), 130 interrupted (what was measured is kept; --resume continues). Where
    several apply: the first of 130, 2, 4, 1 and 3.

    \b
    Examples:
      freezekit bench
      freezekit bench timm:convnext_atto -s first-n-stages:n=2 -o a.json -o a.md
      freezekit bench torchvision:resnet50 -s batch-norm --lean both
      freezekit bench torchvision:resnet50 -s head-only --cache both
      freezekit bench torchvision:resnet50 -s bias-only --lean both --compile both
      freezekit bench timm:resnet10t timm:resnet14t -s full -o two.json --resume
      freezekit bench my.py:build -s head-only --fail-if 'peak_bytes > full * 0.6'
      freezekit bench my.py:build -s head-only --image-size 96 --budget 0
      freezekit bench timm:resnet14t --schedule 'head-only then full at 2ep'
      freezekit bench timm:resnet10t timm:resnet14t --engine ray -o two.json
    """  # noqa: D301  # click reads the character
    from freezekit.bench.forked import ForkServer
    from freezekit.bench.run import BenchOptions
    from freezekit.bench.schedule_rows import choose_schedules
    from freezekit.cli.bench_runs import run_all
    from freezekit.compare.pairing import find_run
    from freezekit.engines.choose import make_engine
    from freezekit.gate.judge import check_gates
    from freezekit.plugins.registering import load_registry
    from freezekit.report.formats import RESULT_FORMATS
    from freezekit.report.output import check_replaceable, check_writable
    from freezekit.results.locking import locked
    from freezekit.results.records import Workload
    from freezekit.results.store import load

    if address is not None and engine_name is None:
        raise click.UsageError("--address is that of an engine's cluster: name it with --engine")
    if not schedules and (epochs or steps_per_epoch):
        given = "--epochs" if epochs else "--steps-per-epoch"
        raise click.UsageError(f"without --schedule there is no run: leave out {given}")
    for path in outputs:
        check_writable(path, RESULT_FORMATS)
    before = load(baseline) if baseline is not None else ()
    block = options.pop("block")
    registry = load_registry(block)
    for note in registry.notes:
        click.echo(f"Warning: {note}", err=True)
    lean, budget = options.pop("lean"), options.pop("budget")
    is_lean = lean.kind
    cache, compiled = options.pop("cache"), options.pop("compiled")
    if budget is None:  # twice the rows take twice the time
        budget = DEFAULT_BUDGET_SECONDS * 2 ** [is_lean, cache, compiled].count("both")
    threads, static_only = options.pop("threads"), options.pop("static_only")
    if static_only and compiled != "off":
        raise click.UsageError(
            "the memory and the time of a compiled model are known from a run alone: leave out "
            "--static or --compile"
        )
    check_eager(lean.budget, compiled=compiled != "off")
    asked = specs or (() if schedules else DEFAULT_SPECS)
    variants = lean.of(choose(asked, registry, is_lean, cache, compiled))
    timed = lean.of(choose_schedules(schedules, registry, is_lean))
    check_gates(
        gates,
        variants,
        schedules=timed,
        has_baseline=bool(before),
        static_only=static_only,
        resumes=resume,
    )
    if not models and options["image_size"] is None:
        options["image_size"] = DEFAULT_IMAGE_SIZE
    names = tuple(dict.fromkeys(models)) or (DEFAULT_MODEL,)
    workloads = [Workload(model, **options) for model in names]
    for workload in workloads if before else ():
        find_run(before, workload, "the baseline")
    if len(names) > 1:  # the run of a single model finds out at once
        _check_names(names)
    with ExitStack() as stack:
        stack.enter_context(locked(outputs))
        server = stack.enter_context(ForkServer())
        engine = None
        if engine_name is not None:
            engine = stack.enter_context(
                closing(
                    make_engine(
                        engine_name,
                        address=address,
                        folder=_folder_of_jobs(outputs),
                        threads=threads,
                        block=block,
                        one_per_host=True,
                    )
                )
            )
        earlier = _earlier(outputs) if resume else ()
        for path in outputs:
            check_replaceable(path, RESULT_FORMATS)
        how = BenchOptions(
            variants=variants,
            block=block,
            threads=threads,
            budget_seconds=budget or None,
            static_only=static_only,
            skip_refused=not specs,
            earlier=earlier,
            schedules=timed,
            epochs=epochs or EPOCHS,
            steps_per_epoch=steps_per_epoch or STEPS_PER_EPOCH,
        )
        code = run_all(
            workloads,
            how,
            registry,
            outputs,
            server,
            engine=engine,
            replaced=() if resume else _complete_runs(outputs),
            gates=gates,
            baseline=before,
            explain=explain,
        )
    click.get_current_context().exit(code)


def _folder_of_jobs(outputs: tuple[str, ...]) -> str:
    """Return the folder for the jobs of an engine: beside the first output."""
    return str(Path(outputs[0]).with_suffix(".jobs") if outputs else Path("freezekit.jobs"))


def _check_names(models: tuple[str, ...]) -> None:
    """Raise where a model does not exist, before the others are measured.

    Most names are in the source files of timm and torchvision, which are read without importing
    them. A process looks up the others.
    """
    from freezekit.bench.processes import Workers, job_for
    from freezekit.results.records import Workload

    shown = {
        f"{source}:{name}" for source in ("timm", "torchvision") for name in model_names(source)
    }
    others = [model for model in models if model not in shown]
    if not others:
        return
    job = {**job_for("names", Workload(others[0]), (), (), None), "models": others}
    with Workers() as workers:
        for event in workers.events(job):
            if (
                event["event"] == "broken" and event["model"]
            ):  # its own run reports any other failure
                raise ModelError(f"{event['error']}; nothing was measured")


def _earlier(outputs: tuple[str, ...]) -> tuple[Result, ...]:
    """Return the runs in the first .json output."""
    from freezekit.report.formats import holds_results
    from freezekit.results.store import load

    path = next((path for path in outputs if holds_results(path)), None)
    if path is None:
        raise click.UsageError("--resume continues a result file: name it with -o FILE.json")
    return load(path) if Path(path).exists() else ()


def _complete_runs(outputs: tuple[str, ...]) -> tuple[Result, ...]:
    """Return the complete runs in the .json outputs; a file that cannot be read has none."""
    from freezekit.report.formats import holds_results
    from freezekit.results.store import load

    runs: list[Result] = []
    for path in outputs:
        if holds_results(path) and Path(path).exists():
            with suppress(OutputError):
                runs += load(path)
    return tuple(run for run in runs if run.complete)
