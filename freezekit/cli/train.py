"""`freezekit train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from freezekit.cli.completion import complete_model, complete_schedule, complete_spec
from freezekit.cli.lean_option import LeanCommand, LeanType
from freezekit.cli.options import (
    block_option,
    image_size_option,
    seed_option,
    storable,
    threads_option,
    with_options,
)
from freezekit.cli.training_options import DATA_OPTIONS, RECIPE_OPTIONS, RateType
from freezekit.errors import ExitCode

if TYPE_CHECKING:
    from freezekit.results.lean_text import LeanChoice

EPOCHS = 5


@click.command(cls=LeanCommand)
@click.argument("model", shell_complete=complete_model)
@with_options(*DATA_OPTIONS)
@click.option(
    "-s",
    "--strategy",
    "spec",
    metavar="SPEC",
    shell_complete=complete_spec,
    help="What is frozen.  [default: full]",
)
@click.option(
    "--schedule",
    metavar="TEXT",
    shell_complete=complete_schedule,
    help="What is frozen over time, in place of -s: 'head-only then full at 50%'.",
)
@click.option(
    "--epochs", type=click.IntRange(min=1), default=EPOCHS, show_default=True, callback=storable
)
@click.option(
    "--lr",
    type=RateType(),
    default=1e-3,
    show_default=True,
    metavar="NUMBER|auto",
    help="The learning rate after warm-up. auto: a short range test finds one.",
)
@image_size_option
@click.option(
    "--lean",
    type=LeanType(),
    default=False,
    metavar="[on|off|budget:SIZE]",
    help="Save only the tensors that gradients need, perhaps within a budget of memory.",
)
@with_options(*RECIPE_OPTIONS)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="FILE.py:FUNCTION",
    help="A further figure, from the logits and labels of the validation to a number; may "
    "be given several times.",
)
@threads_option
@seed_option
@click.option(
    "-o",
    "--output",
    metavar="FILE.safetensors",
    required=True,
    type=click.Path(),
    help="The weights, with classes and preprocessing as metadata.",
)
@click.option(
    "--checkpoint",
    metavar="FOLDER",
    help="Keep the training after each epoch: in a folder, or under a URL of object storage.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint that is there, if any.")
@block_option
def train(
    model: str,
    data: str | None,
    val_fraction: float | None,
    bad_images: Literal["error", "skip"],
    spec: str | None,
    schedule: str | None,
    lean: LeanChoice,
    pretrained: bool | None,
    metrics: tuple[str, ...],
    workers: int,
    output: str,
    checkpoint: str | None,
    resume: bool,
    block: tuple[str, ...],
    **options: Any,  # Any: fields of a recipe
) -> None:
    """Fine-tune MODEL on your own images, and write its weights.

    MODEL is torchvision:NAME, timm:NAME, package.module:factory or path/to/file.py:factory. It gets
    a new classifier for your classes. Images are resized, cropped and normalised as its weights
    expect. It is validated after each epoch. The same command with the same images and seed gives
    the same bits on a CPU.

    Exit codes: 0 trained, 2 wrong usage or data that cannot be read, 4 the loss was no number, 130
    interrupted.

    \b
    Examples:
      freezekit train timm:resnet18 --data photos -s head-only -o w.safetensors
      freezekit train timm:resnet18 --data photos --schedule lp-ft --lr auto
      freezekit train timm:resnet34 --data photos -s first-n-stages:n=2
        --checkpoint run1 -o w.safetensors --resume
    """  # noqa: D301  # click reads the character
    from freezekit.cli.device import check_device
    from freezekit.cli.training_run import run
    from freezekit.plugins.registering import load_registry
    from freezekit.training.recipes import checked
    from freezekit.training.records import Recipe

    if spec is not None and schedule is not None:
        raise click.UsageError("-s and --schedule both say what is frozen: leave out one")
    if resume and checkpoint is None:
        raise click.UsageError("--resume goes on from a checkpoint: give --checkpoint FOLDER too")
    registry = load_registry(block)
    for note in registry.notes:
        click.echo(f"Warning: {note}", err=True)
    check_device(options["device"])
    if pretrained is None:
        pretrained = model.startswith(("timm:", "torchvision:"))
    recipe = Recipe(
        model, spec or "full", schedule=schedule, lean=lean, pretrained=pretrained, **options
    )
    status = run(
        checked(recipe, registry),  # before the images: a misspelt spec is told at once
        data,
        registry,
        images={"val_fraction": val_fraction, "bad_images": bad_images},
        metrics=metrics,
        workers=workers,
        output=output,
        checkpoint=checkpoint,
        resume=resume,
    )
    if status is not ExitCode.OK:
        click.get_current_context().exit(status)
