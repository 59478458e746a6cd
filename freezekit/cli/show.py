"""`freezekit show`."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from freezekit.cli.completion import complete_model, complete_spec
from freezekit.cli.options import (
    block_option,
    image_size_option,
    num_classes_option,
    schedule_options,
)
from freezekit.cli.own_code import no_exit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from freezekit.results.records import CacheFigures


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option(
    "-s",
    "--strategy",
    "spec",
    metavar="SPEC",
    shell_complete=complete_spec,
    help="What to plan; none: show the stages.",
)
@schedule_options
@click.option(
    "--params",
    is_flag=True,
    help="List each parameter: NAME: STAGE; with -s NAME: True (trained) or False.",
)
@click.option(
    "--explain", is_flag=True, help="Print why the stages are as they are; not with -s or --params."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@num_classes_option
@image_size_option
@block_option
def show(
    model: str,
    spec: str | None,
    schedule: str | None,
    epochs: int | None,
    steps_per_epoch: int | None,
    params: bool,
    explain: bool,
    as_json: bool,
    num_classes: int | None,
    image_size: int | None,
    block: tuple[str, ...],
) -> None:
    """Show the stages of a model, or what a strategy or a schedule does to them.

    Without a strategy: what is in each stage, what its output is laid out on, which kinds of norm
    it has, and what `frozen.cache` would keep of each sample if the stages up to there were frozen.
    With one, stage by stage: what is trained, frozen, held in eval mode, with which learning rate;
    and what a cache would keep of each sample.

    With --schedule: the phases of a training, when each begins, which stages it trains with which
    learning rate, the predicted memory peak and FLOPs of one of its steps, and what a cache would
    keep of each sample. Without --steps-per-epoch, an epoch has 100 steps.

    With --explain: the parts of the model in the order of use, where its body begins and ends,
    which parts make a stage, which stages were merged, and why.

    No weights are loaded: the model is built from shapes and observed on them.

    \b
    Examples:
      freezekit show torchvision:resnet50
      freezekit show torchvision:resnet50 --explain
      freezekit show timm:vit_small_patch16_224 --image-size 384 --json
      freezekit show torchvision:resnet50 -s first-n-stages:n=2
      freezekit show timm:vit_small_patch16_224 -s head-only --params
      freezekit show torchvision:resnet50 --schedule 'head-only then full at 2ep'
    """  # noqa: D301  # click reads the character
    from rich.console import Console

    from freezekit.plugins.registering import load_registry

    _check_usage(
        {
            "-s": spec is not None,
            "--schedule": schedule is not None,
            "--epochs": epochs is not None,
            "--steps-per-epoch": steps_per_epoch is not None,
            "--params": params,
            "--explain": explain,
        }
    )
    registry = load_registry(block)
    for note in registry.notes:
        click.echo(f"Warning: {note}", err=True)
    if spec is not None:
        registry.create(spec)  # before the model: a misspelt spec is told at once
    timed = None if schedule is None else registry.schedule(schedule)
    with (
        Console(stderr=True).status(f"building {model}") as status,  # on a terminal only
        no_exit(model),
        redirect_stdout(sys.stderr),  # what the user's own code prints is no part of the answer
    ):
        from freezekit.freezing.planning import decide, view
        from freezekit.model.loading import load_backbone
        from freezekit.model.own_folder import look_in_current_folder
        from freezekit.results.records import Workload

        look_in_current_folder()
        workload = Workload(model, image_size=image_size, num_classes=num_classes)
        built = load_backbone(model, num_classes=num_classes, image_size=image_size, device="meta")
        backbone = view(built, _example(built, model, image_size), registry)
        plan = None if spec is None else decide(backbone, spec, registry)
        caches: tuple[CacheFigures, ...] = ()
        followed = None
        if timed is not None:
            from freezekit.cli.phases import follow

            totals = (epochs, steps_per_epoch)
            followed = follow(timed, backbone, registry, totals, workload, status.update)
        elif explain:
            _ = backbone.explanation
        elif params and not as_json:
            _ = backbone.stages if plan is None else None
        else:
            from freezekit.bench.cache_figures import boundary_figures, cache_figures, forwards_of

            status.update(f"{model}: what a cache keeps")
            forwards = forwards_of(workload)
            if plan is None:
                caches = boundary_figures(forwards, backbone, registry)
            else:
                caches = (cache_figures(forwards, plan),)
    from freezekit.cli.shown import show_explanation, show_phases, show_plan, show_stages

    if followed is not None:
        show_phases(backbone, followed, {"model": model}, as_json)
    elif explain:
        show_explanation(backbone, {"model": model}, as_json)
    elif spec is not None and plan is not None:
        show_plan(backbone, plan, {"model": model, "strategy": spec}, caches, as_json)
    else:
        show_stages(backbone, {"model": model}, image_size, caches, as_json)


def _check_usage(given: Mapping[str, bool]) -> None:
    """Refuse options that do not go together; `given` says by name which were given."""
    against: tuple[str, ...] = ("--epochs", "--steps-per-epoch")
    about = "without --schedule there is no run"
    if given["--explain"]:
        about, against = (
            "--explain is about the stages of a model",
            ("--schedule", "-s", "--params"),
        )
    elif given["--schedule"]:
        about, against = "--schedule is about several plans", ("-s", "--params")
    if other := next((name for name in against if given[name]), None):
        raise click.UsageError(f"{about}: leave out {other}")


def _example(model: nn.Module, text: str, image_size: int | None) -> tuple[Any, ...] | None:
    """Return what the model's forward takes in eval mode, None for what it takes by default."""
    if image_size is None:
        return None
    from freezekit.model.tasks import make_inputs, task_of
    from freezekit.staging.input_shape import shape_taken

    detects = task_of(model) == "detection"
    inputs = make_inputs(model, shape_taken(model, text, 1 if detects else 2, image_size))
    return inputs[:1] if detects else inputs  # without targets
