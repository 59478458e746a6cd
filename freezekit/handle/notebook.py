"""The freeze map as HTML, for notebooks."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

if TYPE_CHECKING:
    from freezekit.freezing.describe import FreezeMap


def as_html(shown: FreezeMap, beside: tuple[str, ...]) -> str:
    """Return a map as one element of HTML, whose colours suit light and dark pages.

    Args:
        shown: The map.
        beside: Lines under the table.

    Example:
        >>> from freezekit import freeze_, load_backbone
        >>> frozen = freeze_(load_backbone("torchvision:resnet18", device="meta"), "head-only")
        >>> "513,000" in frozen._repr_html_()
        True
    """
    rows = [
        (stage, lr, stage.trainable / stage.parameters if stage.parameters else 0.0)
        for stage, lr in zip(shown.stages, shown.lr, strict=True)
    ]
    return _template().render(shown=shown, rows=rows, beside=beside)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("notebook.html.j2")
