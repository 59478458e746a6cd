"""`freezekit verify`."""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from freezekit.cli.completion import complete_model, complete_schedule, complete_spec
from freezekit.cli.lean_option import LeanCommand, LeanType, check_eager
from freezekit.cli.options import (
    block_option,
    image_size_option,
    num_classes_option,
    seed_option,
    storable,
)
from freezekit.cli.own_code import no_exit
from freezekit.cli.verified_model import build, loss_of
from freezekit.errors import ExitCode, FreezeError, FreezekitWarning, ModelError
from freezekit.results.lean_text import PREFIX
from freezekit.results.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

    from freezekit.handle.frozen import Frozen
    from freezekit.plugins.registry import Registry
    from freezekit.results.lean_text import LeanChoice
    from freezekit.verify import Verification

MOST_RANKS = 64
"""Each has four copies of the model."""


@click.command(cls=LeanCommand)
@click.argument("model", shell_complete=complete_model)
@click.option(
    "-s",
    "--strategy",
    "spec",
    metavar="SPEC",
    shell_complete=complete_spec,
    help="What to freeze. Default: the parameters that the model's factory froze.",
)
@click.option(
    "--lean",
    type=LeanType(),
    is_flag=False,
    flag_value="on",
    default=False,
    metavar=f"[{PREFIX}SIZE]",
    help="Freeze with lean=True, and verify that too. budget:2GiB: with that budget of memory.",
)
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Train the copy through torch.compile; with --lean, compare it bit by bit with a stock "
    "copy that is compiled.",
)
@click.option(
    "--schedule",
    metavar="TEXT",
    shell_complete=complete_schedule,
    help="Train through the phases of a schedule instead, or of strategies one after the other as "
    "in 'head-only then full at 50%'.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    callback=storable,
    help="With --schedule. Default: the fewest that reach all phases, within 100 steps; 10 if the "
    "schedule observes steps.",
)
@click.option(
    "--steps-per-epoch",
    type=click.IntRange(min=1),
    callback=storable,
    help="With --schedule.  [default: 2]",
)
@click.option(
    "--nproc",
    type=click.IntRange(min=1, max=MOST_RANKS),
    help="With --schedule: train in so many processes under DistributedDataParallel, each with its "
    "own data, and compare them bit by bit after each step.",
)
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
    lean: LeanChoice,
    compiled: bool,
    as_json: bool,
    schedule: str | None,
    epochs: int | None,
    steps_per_epoch: int | None,
    nproc: int | None,
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

    With --schedule the copy is trained through all phases on one optimizer. Each phase is checked,
    learning rates too, and so is a training that is resumed before and after each change of plan.

    Exit codes: 0 all passed, 1 a check failed, 2 wrong usage.

    \b
    Examples:
      freezekit verify torchvision:resnet18 -s first-n-stages:n=2
      freezekit verify torchvision:resnet18 -s batch-norm --lean
      freezekit verify torchvision:resnet18 -s bias-only --lean --compile
      freezekit verify my_model.py:build_frozen --image-size 96
      freezekit verify timm:resnet18 --schedule 'head-only then full at 1ep'
      freezekit verify torchvision:resnet18 --schedule gradual-unfreeze --nproc 2
    """  # noqa: D301  # click reads the character
    from rich.console import Console

    from freezekit.plugins.registering import load_registry

    is_given = click.get_current_context().get_parameter_source
    _check_usage(
        {
            "-s": spec is not None,
            "--schedule": schedule is not None,
            "--epochs": epochs is not None,
            "--steps-per-epoch": steps_per_epoch is not None,
            "--nproc": nproc is not None,
            "--steps": is_given("steps") != ParameterSource.DEFAULT,
            "--compile": compiled,
        }
    )
    _check_ranks(nproc, options["device"])
    check_eager(lean, compiled=compiled)
    registry = load_registry(options["block"])
    for note in registry.notes:
        click.echo(f"Warning: {note}", err=True)
    if schedule is not None:
        from freezekit.cli.verify_schedule import Asked, verify_schedule

        over_time = Asked(model, schedule, lean, epochs, steps_per_epoch or 2, loss, **options)
        with _clear_out_of_memory(model):
            passed = verify_schedule(over_time, registry, nproc, as_json=as_json)
        click.get_current_context().exit(ExitCode.OK if passed else ExitCode.CHECK_FAILED)
    del options["block"]
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
        built, inputs = build(model, **options)
        doing = "compiling and training" if compiled else "training"
        status.update(f"verifying {model}: {doing} a copy")
        training = {"steps": steps, "loss": loss_of(built, loss), "compiled": compiled}
        found, frozen = _verify(model, built, inputs, spec, lean, registry, training)
    if as_json:
        asked = {"model": model, "strategy": spec, "lean": lean, "compiled": compiled}
        said = {**asked, "steps": steps, **json.loads(found.to_json())}
        click.echo(json.dumps(said, indent=2))
    else:
        how = Variant(spec, lean, compiled=compiled).label if spec else "as its factory left it"
        click.echo(f"{model}, {how}\n\n{found}")
    for text in frozen.plan.warnings if frozen else ():
        click.echo(f"warning: {text}", err=True)
    click.get_current_context().exit(ExitCode.OK if found.passed else ExitCode.CHECK_FAILED)


def _check_usage(given: Mapping[str, bool]) -> None:
    """Refuse options that do not go together; `given` says by name which were given.

    Raises:
        FreezeError: Some were.
    """
    against: tuple[str, ...]
    if given["--schedule"] and given["--compile"]:
        raise FreezeError(
            "--schedule trains the eager model: leave out --compile, or verify each strategy with "
            "-s SPEC --compile"
        )
    if given["--schedule"]:
        about, against = "--schedule says what is frozen when", ("-s", "--steps")
    else:
        about = "without --schedule there is no training over time"
        against = "--epochs", "--steps-per-epoch", "--nproc"
    if other := next((name for name in against if given[name]), None):
        instead = "; give --epochs and --steps-per-epoch" if other == "--steps" else ""
        raise FreezeError(f"{about}: leave out {other}{instead}")


def _check_ranks(nproc: int | None, device: str) -> None:
    """Refuse what several processes cannot do.

    Raises:
        FreezeError: There is one process only, or they would not run on the CPU.
    """
    if nproc == 1:
        raise FreezeError(
            "--nproc 1: one process has no other to be compared with; give 2 or more, or leave out "
            "--nproc"
        )
    if nproc is not None and device != "cpu":
        raise FreezeError(f"--nproc: the processes run on the CPU; leave out --device {device}")


def _verify(
    text: str,
    model: nn.Module,
    inputs: tuple[Any, ...],  # Any: whatever the model takes
    spec: str | None,
    lean: LeanChoice,
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
            f"out of memory with {text!r}: verify needs three copies of the model and one batch, "
            "and each process of --schedule four; "
            "try a smaller --image-size, --batch-size 1, or another --device"
        ) from error
