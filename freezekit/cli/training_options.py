"""Options of a training, which `freezekit train` and `freezekit sweep` share."""

from __future__ import annotations

from typing import Any, Literal

import click

from freezekit.cli.options import storable


class RateType(click.ParamType[float | Literal["auto"]]):
    """Reads a learning rate, or auto."""

    name = "lr"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:  # Any: click's own
        """Return what a recipe takes."""
        if value == "auto" or isinstance(value, float):
            return value
        try:
            rate = float(value)
        except ValueError:
            rate = 0.0
        if not 0 < rate <= 1e6:
            self.fail(f"{value!r} is neither a number above 0, at most 1e6, nor 'auto'", param, ctx)
        return rate


DATA_OPTIONS = (
    click.option(
        "--data",
        metavar="FOLDER",
        help="Your images: a folder of class folders; one with train/ and val/; "
        "imagefolder:FOLDER (Hugging Face); or file.py:function, which returns datasets for "
        "training and validation.",
    ),
    click.option(
        "--val-fraction",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        show_default="0.2",
        help="The part of each class to validate on, where the data has no split.",
    ),
    click.option(
        "--bad-images",
        type=click.Choice(["error", "skip"]),
        default="error",
        show_default=True,
        help="What becomes of images that cannot be read.",
    ),
)
"""Which images are trained on and validated on."""

RECIPE_OPTIONS = (
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=32,
        show_default=True,
        callback=storable,
    ),
    click.option(
        "--optimizer",
        type=click.Choice(["adamw", "sgd", "adam"]),
        default="adamw",
        show_default=True,
    ),
    click.option(
        "--weight-decay",
        type=click.FloatRange(min=0, max=1e6),
        default=0.05,
        show_default=True,
        callback=storable,
    ),
    click.option(
        "--warmup",
        type=click.FloatRange(0, 1),
        default=0.1,
        show_default=True,
        help="The share of all steps in which the learning rate rises. A cosine follows.",
    ),
    click.option("--label-smoothing", type=click.FloatRange(0, 1), default=0.1, show_default=True),
    click.option(
        "--ema",
        metavar="DECAY",
        type=click.FloatRange(0, 1, max_open=True),
        help="Validate and keep averaged weights, such as 0.99.",
    ),
    click.option(
        "--amp", type=click.Choice(["bfloat16", "float16"]), help="Autocast to this type."
    ),
    click.option(
        "--augment",
        type=click.Choice(["standard", "none"]),
        default="standard",
        show_default=True,
        help="standard: random crops and flips. none: as in a validation.",
    ),
    click.option(
        "--cache",
        type=click.Choice(["auto", "off"]),
        default="auto",
        show_default=True,
        help="auto: compute the frozen prefix once, where that is exact and pays: of training "
        "images with --augment none, and of validation images.",
    ),
    click.option(
        "--pretrained/--no-pretrained",
        default=None,
        help="Load the library's default weights. By default a model of a library loads them, "
        "and a factory is called without that argument.",
    ),
    click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        callback=storable,
        help="Processes that read images.",
    ),
)
"""How a training goes."""
