"""`freezekit show`."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
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

    from freezekit.backbone.view import Backbone
    from freezekit.cli.phases import Followed
    from freezekit.freezing.plan import FreezePlan


NARROWEST, WIDEST = 70, 80
"""Columns of a table: as many as the terminal has, within this."""


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
    it has. With one, stage by stage: what is trained, frozen, held in eval mode, with which
    learning rate.

    With --schedule: the phases of a training, when each begins, which stages it trains with which
    learning rate, and the predicted memory peak and FLOPs of one of its steps. Without
    --steps-per-epoch, an epoch has 100 steps.

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

    from freezekit.plugins.registry import load_registry

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
        built = load_backbone(model, num_classes=num_classes, image_size=image_size, device="meta")
        backbone = view(built, _example(built, model, image_size), registry)
        plan = None if spec is None else decide(backbone, spec, registry)
        followed = None
        if timed is not None:
            from freezekit.cli.phases import follow

            workload = Workload(model, image_size=image_size, num_classes=num_classes)
            totals = (epochs, steps_per_epoch)
            followed = follow(timed, backbone, registry, totals, workload, status.update)
        elif explain:
            _ = backbone.explanation
        elif plan is None:
            _ = backbone.stages  # observed while the status is shown
    if followed is not None:
        _show_phases(backbone, followed, {"model": model}, as_json)
    elif explain:
        _show_explanation(backbone, {"model": model}, as_json)
    elif spec is not None and plan is not None:
        _show_plan(backbone, plan, {"model": model, "strategy": spec}, params, as_json)
    else:
        _show_stages(backbone, {"model": model}, image_size, params, as_json)


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


def _show_explanation(backbone: Backbone, about: dict[str, str], as_json: bool) -> None:
    from freezekit.backbone.explanation_text import explanation_text

    told = backbone.explanation
    if as_json:
        click.echo(json.dumps({**about, "explanation": asdict(told)}, indent=2))
    else:
        click.echo(explanation_text(told, width=_width()))
    if told.error:
        _ = backbone.stages  # raises what it says


def _width() -> int:
    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)


def _show_phases(
    backbone: Backbone, followed: Followed, about: dict[str, str], as_json: bool
) -> None:
    from freezekit.cli.phase_table import phase_table
    from freezekit.cli.phases import as_data

    if as_json:
        click.echo(json.dumps({**about, **as_data(followed, backbone)}, indent=2))
    else:
        click.echo(phase_table(followed, backbone, width=_width()))


def _show_stages(
    backbone: Backbone,
    about: dict[str, str],
    image_size: int | None,
    params: bool,
    as_json: bool,
) -> None:
    from freezekit.backbone.stage_rows import norm_stages, stage_rows
    from freezekit.backbone.stage_table import stage_table

    if as_json:
        places = norm_stages(backbone)
        norms = [
            {"name": n.name, "kind": n.kind, "type": n.type_name, "stage": places[n.name]}
            for n in backbone.norms
        ]
        stages = [vars(row) for row in stage_rows(backbone)]
        click.echo(json.dumps({**about, "stages": stages, "norms": norms}, indent=2))
    elif params:
        stage_of = {name: stage.name for stage in backbone.stages for name in stage.parameters}
        for name in backbone.parameters:
            click.echo(f"{name}: {stage_of[name]}")
    else:
        observed = f"{image_size} pixels" if image_size else ""
        click.echo(stage_table(backbone, width=_width(), observed=observed))


def _show_plan(
    backbone: Backbone, plan: FreezePlan, about: dict[str, str], params: bool, as_json: bool
) -> None:
    from freezekit.freezing.describe import describe, summarise

    trained = {name: name not in plan.frozen for name in backbone.parameters}
    if as_json:
        stages = [vars(summary) for summary in summarise(backbone, plan)]
        data = {**about, "stages": stages, "trained": trained}
        click.echo(json.dumps({**data, "plan": json.loads(plan.to_json())}, indent=2))
    elif params:
        for name, is_trained in trained.items():
            click.echo(f"{name}: {is_trained}")
        for text in plan.warnings:
            click.echo(f"warning: {text}", err=True)
    else:
        click.echo(describe(backbone, plan))
