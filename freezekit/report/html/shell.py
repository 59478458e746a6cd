"""What all pages share: style, script, data and the runtime of the charts, around their content."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from freezekit.report.html.drawing import CONFIG
from freezekit.report.html.embedding import as_json, as_script, runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.report.html.drawing import Drawing

HERE = Path(__file__).parent


def render_page(
    template: str,
    *,
    command: str,
    title: str,
    name: str,
    drawings: Sequence[Drawing],
    data: Markup,
    generator: str,
    **content: Any,  # Any: whatever the template shows
) -> str:
    """Return a page that fetches nothing.

    Args:
        template: Its file, which extends "base.html.j2".
        command: Such as "freezekit bench".
        title: What the page is about.
        name: What the reader saves the data as, without extension.
        drawings: All charts of the page.
        data: JSON that the reader can save.
        generator: By what the page is recognised.
        **content: For the template.
    """
    return (
        _templates()
        .get_template(template)
        .render(
            brand=command,
            title=title,
            generator=generator,
            style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
            script=as_script((HERE / "script.js").read_text(encoding="utf-8")),
            runtime=runtime() if any(drawing.spec for drawing in drawings) else "",
            config=as_json(CONFIG),
            data=data,
            file_name=f"{_every_system(name)}.json",
            **content,
        )
    )


def _every_system(name: str) -> str:
    """Return a file name that every system takes.

    Example:
        >>> _every_system("timm:vit/16"), _every_system("???")
        ('timm-vit-16', 'result')
    """
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.") or "result"


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_json"] = as_json
    return environment
