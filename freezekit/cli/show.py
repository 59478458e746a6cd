"""`freezekit show`."""

from __future__ import annotations

import json

import click

from freezekit.cli.options import block_option


@click.command()
@click.argument("model")
@click.option("-s", "--strategy", "spec", required=True, metavar="SPEC", help="What to plan.")
@click.option("--params", is_flag=True, help="List each parameter: NAME: True (trained) or False.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--num-classes", type=click.IntRange(min=1), help="Classes of the classifier.")
@click.option("--image-size", type=click.IntRange(min=1), help="Pixels; default: the model's own.")
@block_option
def show(
    model: str,
    spec: str,
    params: bool,
    as_json: bool,
    num_classes: int | None,
    image_size: int | None,
    block: tuple[str, ...],
) -> None:
    """Show what a strategy does to a model.

    Stage by stage: what is trained, frozen, held in eval mode, with which learning rate.

    No weights are loaded and nothing is run: the model is built from shapes alone.

    \b
    Examples:
      freezekit show torchvision:resnet50 -s first-n-stages:n=2
      freezekit show timm:vit_small_patch16_224 -s head-only --params
    """  # noqa: D301  # click reads the character
    from rich.console import Console

    from freezekit.registry import load_registry

    registry = load_registry(block)
    for note in registry.notes:
        click.echo(f"Warning: {note}", err=True)
    registry.create(spec)  # before the model: a misspelt spec is told at once
    with Console(stderr=True).status(f"building {model}"):  # on a terminal only
        import torch

        from freezekit.backbone.loading import load_backbone
        from freezekit.describe import describe, summarise
        from freezekit.planning import decide, view

        built = load_backbone(model, num_classes=num_classes, device="meta")
        images = torch.empty(2, 3, image_size, image_size) if image_size else None
        backbone = view(built, images, registry)
        plan = decide(backbone, spec, registry)
    trained = {name: name not in plan.frozen for name in backbone.parameters}
    if as_json:
        stages = [vars(summary) for summary in summarise(backbone, plan)]
        data = {"model": model, "strategy": spec, "stages": stages, "trained": trained}
        click.echo(json.dumps({**data, "plan": json.loads(plan.to_json())}, indent=2))
    elif params:
        for name, is_trained in trained.items():
            click.echo(f"{name}: {is_trained}")
        for text in plan.warnings:
            click.echo(f"warning: {text}", err=True)
    else:
        click.echo(describe(backbone, plan))
