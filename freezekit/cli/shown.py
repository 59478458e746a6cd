"""What `freezekit show` prints, as text or as JSON."""

from __future__ import annotations

import json
import shutil
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from msgspec import to_builtins

from freezekit.report.cache_text import sentence, size
from freezekit.report.formatting import MISSING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.backbone.view import Backbone
    from freezekit.cli.phases import Followed
    from freezekit.freezing.plan import FreezePlan
    from freezekit.results.records import CacheFigures

NARROWEST, WIDEST = 70, 80
"""Columns of a table: as many as the terminal has, within this."""


def show_explanation(backbone: Backbone, about: dict[str, str], as_json: bool) -> None:
    """Show why the stages are as they are."""
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


def show_phases(
    backbone: Backbone, followed: Followed, about: dict[str, str], as_json: bool
) -> None:
    """Show the phases of a training."""
    from freezekit.cli.phase_table import phase_table
    from freezekit.cli.phases import as_data

    if as_json:
        click.echo(json.dumps({**about, **as_data(followed, backbone)}, indent=2))
    else:
        click.echo(phase_table(followed, backbone, width=_width()))


def show_stages(
    backbone: Backbone,
    about: dict[str, str],
    image_size: int | None,
    caches: Sequence[CacheFigures],
    as_json: bool,
) -> None:
    """Show the stages; without figures of caches, the stage of each parameter."""
    from freezekit.backbone.stage_rows import norm_stages, stage_rows
    from freezekit.backbone.stage_table import stage_table

    if as_json:
        places = norm_stages(backbone)
        norms = [
            {"name": n.name, "kind": n.kind, "type": n.type_name, "stage": places[n.name]}
            for n in backbone.norms
        ]
        stages = [vars(row) for row in stage_rows(backbone)]
        data = {**about, "stages": stages, "norms": norms, "caches": to_builtins(caches)}
        click.echo(json.dumps(data, indent=2))
    elif not caches:
        stage_of = {name: stage.name for stage in backbone.stages for name in stage.parameters}
        for name in backbone.parameters:
            click.echo(f"{name}: {stage_of[name]}")
    else:
        observed = f"{image_size} pixels" if image_size else ""
        sizes = [size(found) for found in caches]
        cells = sizes if set(sizes) != {MISSING} else ()
        click.echo(stage_table(backbone, width=_width(), observed=observed, cache=cells))
        if not cells:
            click.echo("\n" + textwrap.fill(sentence(caches[0]), _width(), break_on_hyphens=False))


def show_plan(
    backbone: Backbone,
    plan: FreezePlan,
    about: dict[str, str],
    caches: Sequence[CacheFigures],
    as_json: bool,
) -> None:
    """Show a plan; without figures of its cache, what becomes of each parameter."""
    from freezekit.freezing.describe import describe, freeze_map, summarise

    trained = {name: name not in plan.frozen for name in backbone.parameters}
    if as_json:
        stages = [vars(summary) for summary in summarise(backbone, plan)]
        data = {**about, "stages": stages, "trained": trained, "plan": json.loads(plan.to_json())}
        click.echo(json.dumps({**data, "cache": to_builtins(caches[0])}, indent=2))
    elif not caches:
        for name, is_trained in trained.items():
            click.echo(f"{name}: {is_trained}")
        for text in plan.warnings:
            click.echo(f"warning: {text}", err=True)
    else:
        click.echo(describe(freeze_map(backbone, plan)))
        click.echo(textwrap.fill(sentence(caches[0]), _width(), break_on_hyphens=False))
