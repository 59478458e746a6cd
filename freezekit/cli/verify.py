"""`freezekit verify`."""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from freezekit.cli.completion import complete_model, complete_spec
from freezekit.cli.options import (
    block_option,
    image_size_option,
    num_classes_option,
    seed_option,
    storable,
)
from freezekit.cli.own_code import no_exit
from freezekit.errors import ExitCode, FreezeError, FreezekitWarning, ModelError
from freezekit.results.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from freezekit.handle.frozen import Frozen
    from freezekit.model.loss import LossFunction
    from freezekit.plugins.registry import Registry
    from freezekit.verify import Verification


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option(
    "-s",
    "--strategy",
    "spec",
    metavar="SPEC",
    shell_complete=complete_spec,
    help="What to freeze. Default: the parameters that the model's factory froze.",
)
@click.option("--lean", is_flag=True, help="Freeze with lean=True, and verify that too.")
@click.option(
    "--steps", type=click.IntRange(min=1), default=3, show_default=True, callback=storable
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=2, show_default=True, callback=storable
)
@image_size_option
@num_classes_option
@click.option("--pretrained", is_flag=True, help="Load the library's default weights.")
@click.option("--loss", metavar="FILE.py:FUNCTION", help="From the model's output to a scalar.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@block_option
def verify(
    model: str,
    spec: str | None,
    lean: bool,
    as_json: bool,
    steps: int,
    loss: str | None,
    **options: Any,
) -> None:
    """Train a few steps and prove that frozen is frozen.

    A copy of the model is trained with momentum and weight decay on synthetic images, with
    model.train() before each step. The checks cover weights, running statistics, train mode against
    eval mode, gradients, parameter groups, and undo. Each fault is named.

    MODEL is torchvision:NAME, timm:NAME, package.module:factory or path/to/file.py:factory. Without
    -s the model is verified as its factory returns it: parameters with requires_grad=False are
    frozen.

    Exit codes: 0 all passed, 1 a check failed, 2 wrong usage.

    \b
    Examples:
      freezekit verify torchvision:resnet18 -s first-n-stages:n=2
      freezekit verify torchvision:resnet18 -s batch-norm --lean
      freezekit verify my_model.py:build_frozen --image-size 96
    """  # noqa: D301  # click reads the character
    from rich.console import Console

    from freezekit.plugins.registry import load_registry

    registry = load_registry(options.pop("block"))
    for note in registry.notes:
        click.echo(f"Warning: {note}", err=True)
    if lean and spec is None:
        raise FreezeError("--lean needs -s SPEC: what a factory froze by hand is not lean")
    if spec is not None:
        registry.create(spec)  # before the model is built: a misspelt spec fails at once
    console = Console(stderr=True)  # its status shows only on a terminal
    with (
        console.status(f"building {model}") as status,
        _clear_out_of_memory(model),
        no_exit(model),
        redirect_stdout(sys.stderr),  # what the user's code prints is not part of the answer
    ):
        built, inputs = _build(model, **options)
        status.update(f"verifying {model}: training a copy")
        training = {"steps": steps, "loss": _loss(built, loss)}
        found, frozen = _verify(model, built, inputs, spec, lean, registry, training)
    if as_json:
        asked = {"model": model, "strategy": spec, "lean": lean, "steps": steps}
        said = {**asked, **json.loads(found.to_json())}
        click.echo(json.dumps(said, indent=2))
    else:
        how = Variant(spec, lean).label if spec else "as its factory left it"
        click.echo(f"{model}, {how}\n\n{found}")
    for text in frozen.plan.warnings if frozen else ():
        click.echo(f"warning: {text}", err=True)
    click.get_current_context().exit(ExitCode.OK if found.passed else ExitCode.CHECK_FAILED)


def _build(
    text: str,
    *,
    seed: int,
    device: str,
    batch_size: int,
    image_size: int | None,
    num_classes: int | None,
    pretrained: bool,
) -> tuple[nn.Module, tuple[Any, ...]]:  # Any: whatever the model takes
    """Return the model and a synthetic batch for it.

    Raises:
        ModelError: The model cannot be built.
    """
    import torch

    from freezekit.model.loading import load_backbone
    from freezekit.model.own_folder import look_in_current_folder
    from freezekit.model.tasks import make_inputs
    from freezekit.staging.input_shape import shape_taken

    look_in_current_folder()
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device cuda: torch finds no CUDA device on this machine")
    torch.manual_seed(seed)
    model = load_backbone(
        text, pretrained=pretrained, num_classes=num_classes, image_size=image_size, device=device
    )
    return model, make_inputs(model, shape_taken(model, text, batch_size, image_size))


def _loss(model: nn.Module, text: str | None) -> LossFunction | None:
    """Return the user's own loss, None for the default one.

    Raises:
        ModelError: There is no such function.
    """
    if text is None:
        return None
    from freezekit.model.loss import loss_function
    from freezekit.model.tasks import task_of

    return loss_function(task_of(model), text)


def _verify(
    text: str,
    model: nn.Module,
    inputs: tuple[Any, ...],  # Any: whatever the model takes
    spec: str | None,
    lean: bool,
    registry: Registry,
    training: dict[str, Any],  # Any: the options of `Frozen.verify`
) -> tuple[Verification, Frozen | None]:
    from freezekit.backbone.staged import on_own_size_or
    from freezekit.handle.freeze import freeze_
    from freezekit.verify import verify_model

    if spec is None:
        if all(parameter.requires_grad for parameter in model.parameters()):
            raise FreezeError(
                f"nothing in {text!r} is frozen: say what to freeze with -s SPEC, such as "
                "-s first-n-stages:n=2"
            )
        return verify_model(model, inputs, **training), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FreezekitWarning)  # shown below the table
        frozen = on_own_size_or(
            inputs,
            lambda example: freeze_(
                model, spec, lean=lean, example_input=example, registry=registry
            ),
        )
    return frozen.verify(inputs, **training), frozen


@contextmanager
def _clear_out_of_memory(text: str) -> Iterator[None]:
    """Turn an out-of-memory error into one that says what to do.

    Raises:
        ModelError: Memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        from freezekit.model.out_of_memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"out of memory with {text!r}: verify needs three copies of the model and one batch; "
            "try a smaller --image-size, --batch-size 1, or another --device"
        ) from error
