"""What goes into the page as it is: data, and the runtime of the charts."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert
from markupsafe import Markup

from freezekit.results.store import as_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.results.records import Result

SNIPPET = "window.vegaEmbed = vegaEmbed;"


def as_json(value: Any) -> Markup:  # Any: JSON data
    r"""Return JSON that no script element can be left from; it reads back as the same data.

    Example:
        >>> print(as_json({"name": "</script><!--"}))
        {"name":"\u003c/script\u003e\u003c!--"}
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def results_json(results: Sequence[Result]) -> Markup:
    """Return the result file: one result as an object, several as an array."""
    found = [as_data(result) for result in results]
    return as_json(found[0] if len(found) == 1 else found)


@cache
def runtime() -> Markup:
    """Return the script that draws charts: Vega, Vega-Lite and Vega-Embed, minified."""
    version = "v" + ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    return as_script(vl_convert.javascript_bundle(SNIPPET, vl_version=version))


def as_script(source: str) -> Markup:
    r"""Return a script that its own text cannot end early: both escapes mean the same to it.

    Example:
        >>> print(as_script("a = '</script>'"))
        a = '<\/script>'
    """
    safe = re.sub("</(?=script)", r"<\\/", source, flags=re.IGNORECASE)
    return Markup(safe.replace("<!--", r"<\!--"))
