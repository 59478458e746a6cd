"""`freezekit extract`."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from freezekit.cli.completion import complete_model, complete_spec
from freezekit.cli.extracted_model import build, facts, running
from freezekit.cli.options import block_option, image_size_option, storable
from freezekit.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

    from freezekit.extraction.boundary import Boundary
    from freezekit.extraction.files import Index
    from freezekit.extraction.work import Work
    from freezekit.plugins.registry import Registry


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option(
    "--data",
    metavar="FOLDER",
    required=True,
    type=click.Path(),
    help="Images: a folder for each class, or a flat folder without classes.",
)
@click.option(
    "-o",
    "--output",
    "output",
    metavar="DIR",
    required=True,
    type=click.Path(),
    help="A new or empty folder, or one that an interrupted run has left.",
)
@click.option(
    "-s",
    "--strategy",
    "spec",
    metavar="SPEC",
    shell_complete=complete_spec,
    help="The features are what the trained part needs of the frozen part. Default: head-only, or "
    "the output of a model without a classifier.",
)
@click.option(
    "--stage",
    metavar="NAME",
    help="The features are what this stage returns. `freezekit show MODEL` lists the stages.",
)
@click.option(
    "--pool",
    type=click.Choice(["none", "mean"]),
    default="none",
    show_default=True,
    help="mean: average each tensor over its tokens, or over height and width.",
)
@click.option(
    "--pretrained/--no-pretrained",
    default=None,
    help="Load the library's default weights. By default a model of a library loads them, and a "
    "factory is called without that argument.",
)
@image_size_option
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=32, show_default=True, callback=storable
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    callback=storable,
    help="Processes that read images.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the features in the files. They are computed in the type of the model.",
)
@click.option(
    "--bad-images",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What becomes of images that cannot be read.",
)
@block_option
def extract(
    model: str,
    data: str,
    output: str,
    spec: str | None,
    stage: str | None,
    pool: Literal["none", "mean"],
    pretrained: bool | None,
    image_size: int | None,
    block: tuple[str, ...],
    device: str,
    **options: Any,
) -> None:
    """Compute the features of a folder of images once, for a probe elsewhere.

    MODEL is torchvision:NAME, timm:NAME, package.module:factory or path/to/file.py:factory. It runs
    in eval mode, and images are resized, cropped and normalised as its weights expect.

    DIR gets features-00000.safetensors and so on, with the tensors `features` (samples, numbers)
    and `labels`, and at last index.json, which names the classes and the image of each row. Each
    file is written whole or not at all: after an interruption the same command goes on.

    Exit codes: 0 all computed, 2 wrong usage or images that cannot be read, 130 interrupted.

    \b
    Examples:
      freezekit extract timm:resnet18 --data photos -o features
      freezekit extract timm:resnet18 --data photos -o means --pool mean
      freezekit extract timm:resnet18 --data photos -o maps --stage layer3
      freezekit extract my.py:build --data photos -o mine --bad-images skip
    """  # noqa: D301  # click reads the character
    from rich.console import Console

    from freezekit.data.folder import find_images
    from freezekit.data.preprocessing import preprocessing_of
    from freezekit.extraction.files import check_output
    from freezekit.extraction.finding import find_boundary
    from freezekit.extraction.run import extract as run
    from freezekit.extraction.work import Work
    from freezekit.plugins.registering import load_registry

    if spec is not None and stage is not None:
        raise click.UsageError("-s and --stage both say where features are taken: leave out one")
    registry = load_registry(block)
    for note in registry.notes:
        click.echo(f"Warning: {note}", err=True)
    if spec is not None:
        registry.create(spec)  # before the model: a misspelt spec is told at once
    check_output(Path(output))
    images = find_images(data)
    if images.classes and Path(data).resolve() in Path(output).resolve().parents:
        raise click.UsageError("-o lies in --data, where each folder is a class: name another one")
    click.echo(f"{data}: {images}", err=True)
    for note in images.notes:
        click.echo(f"note: {note}", err=True)
    try:
        with running(model):
            with Console(stderr=True).status(f"building {model}") as status:  # on a terminal only
                built = build(model, pretrained=pretrained, image_size=image_size, device=device)
                how = preprocessing_of(built, model, image_size)
                status.update("finding the boundary")
                boundary = find_boundary(
                    built, spec, how.shape, stage=stage, pool=pool, registry=registry
                )
            click.echo(f"transform: {how.text}", err=True)
            work = Work(images, how, boundary, about=facts(model), **options)
            click.echo(f"features: {work}", err=True)
            _hint(built, boundary, registry, is_default=spec is None and stage is None)
            with _bar() as progress:
                index = run(built, work, output, progress)
    except KeyboardInterrupt:
        has_files = any(Path(output).glob("features-*.safetensors"))
        kept = f"whole files stay in {output!r}, and the same command goes on"
        said = kept if has_files else "the first file was not whole yet, so that nothing is kept"
        click.echo(f"\ninterrupted; {said}", err=True)
        click.get_current_context().exit(ExitCode.INTERRUPTED)
    _say(output, index, work)


def _hint(model: nn.Module, boundary: Boundary, registry: Registry, *, is_default: bool) -> None:
    """Say how features of many positions become smaller."""
    from freezekit.freezing.planning import view

    if boundary.pool == "mean" or not any(_has_positions(t.shape) for t in boundary.tensors):
        return
    said = "note: --pool mean keeps one number for each channel"
    if is_default:
        last = view(model, None, registry).last_layer
        said += f"; -s 'by-name:glob={last}.*,invert=true' takes what the last layer receives"
    click.echo(said, err=True)


def _has_positions(shape: Sequence[int]) -> bool:
    return sum(size > 1 for size in shape) > 1


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how many images are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, emoji=False)
    columns = (BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _say(output: str, index: Index, work: Work) -> None:
    from freezekit.extraction.run import SHOWN
    from freezekit.results.sizes import size_text

    if index.skipped:
        count = f"{len(index.skipped)} of {len(work.images)} images"
        names = ", ".join(map(repr, index.skipped[:SHOWN]))
        more = f" and {len(index.skipped) - SHOWN} more" if len(index.skipped) > SHOWN else ""
        click.echo(f"Warning: skipped {count}, which cannot be read: {names}{more}", err=True)
    size = size_text(index.samples * work.bytes_per_sample)
    click.echo(
        f"{output}: {index.samples:,} samples of {index.numbers:,} numbers, {size} in "
        f"{len(index.feature_files)} file(s)"
    )
