"""`freezekit sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from freezekit.cli.completion import complete_model
from freezekit.cli.sweep_options import sweep_options

if TYPE_CHECKING:
    from freezekit.gate.judge import Gate


@click.command()
@click.argument(
    "models", nargs=-1, required=True, metavar="MODEL...", shell_complete=complete_model
)
@sweep_options
def sweep(
    models: tuple[str, ...],
    data: str | None,
    specs: tuple[str, ...],
    schedules: tuple[str, ...],
    outputs: tuple[str, ...],
    gates: tuple[Gate, ...],
    trials: str | None,
    resume: bool,
    block: tuple[str, ...],
    **options: Any,
) -> None:
    """Train strategies on your own images: accuracy against cost.

    Each candidate is trained with several seeds, all with the same images, order and seeds, so that
    differences are paired. `full` of each model is the baseline. Intervals are over seeds and
    images; a difference is claimed only where its interval excludes 0. docs/guides/sweep.md shows
    how to read the result.

    What was trained is kept in --trials: after an interruption the same command with --resume goes
    on, and gives the same result.

    Exit codes: 0 all trained, 1 a --fail-if condition holds, 2 wrong usage, 3 a condition cannot be
    judged, 4 a candidate failed or has no value of --metric (the others are valid), or --budget
    ended before all was trained (--resume goes on), 130 interrupted.

    \b
    Examples:
      freezekit sweep timm:resnet18 --data photos -o sweep.json
      freezekit sweep timm:resnet18 --data photos -s head-only -s norm-only
      freezekit sweep timm:resnet18 timm:resnet34 --data photos --budget 2h
      freezekit sweep timm:resnet18 --data photos --schedule lp-ft --seeds 5
      freezekit sweep timm:resnet18 --data photos -o sweep.json --resume
    """  # noqa: D301  # click reads the character
    from freezekit.cli.sweep_begun import begin
    from freezekit.cli.sweep_run import run_and_show
    from freezekit.gate.judge_sweep import check_sweep_gates
    from freezekit.plugins.registering import load_registry
    from freezekit.report.formats import SWEEP_FORMATS
    from freezekit.report.output import check_replaceable, check_writable
    from freezekit.results.locking import locked
    from freezekit.sweep.candidates import choose_rows
    from freezekit.sweep.folder import folder_of, opened
    from freezekit.sweep.learning_rates import read_lr

    if options["epochs"] is not None and options["budget"] is not None:
        raise click.UsageError("--budget chooses the epochs: leave out --epochs or --budget")
    for path in outputs:
        check_writable(path, SWEEP_FORMATS)
    registry = load_registry(block)
    for note in registry.notes:
        click.echo(f"Warning: {note}", err=True)
    lr, grid = read_lr(options["lr"], options["optimizer"])
    lean = options["lean"]
    rows = choose_rows(
        tuple(dict.fromkeys(models)),
        specs,
        schedules,
        registry,
        lean=lean.kind,
        budget=lean.budget,
        lr=lr,
        image_sizes=tuple(dict.fromkeys(options["image_sizes"])) or (None,),
    )
    check_sweep_gates(gates, [row.candidate.label for row in rows], has_baseline=False)
    folder, storage = folder_of(trials, outputs)
    with locked(outputs), opened(folder, storage, resume=resume) as kept:
        for path in outputs:
            check_replaceable(path, SWEEP_FORMATS)
        begun = begin(models, data, rows, grid, registry, kept, block, options)
        code = run_and_show(begun, kept, outputs, gates)
    click.get_current_context().exit(code)
