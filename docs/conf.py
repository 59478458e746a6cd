"""The documentation site, which `make docs` builds with Sphinx.

The source folder is the root of the repository. So each page stands in one place, a forge shows it
there too, and its links are the same in both: `plugins/README.md` is a page of the site.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "freezekit"
author = "freezekit"

root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "plugins/*.md",
    "benchmarks/**.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
# Folders that hold no page, so that Sphinx does not walk through an environment or a build.
exclude_patterns = [".*", "build", "dist", "examples", "freezekit", "plugins/*/*", "tests"]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]

myst_heading_anchors = 3  # so that links to a heading are checked
highlight_language = "text"  # of a block without a language: commands and what they print
default_role = "py:obj"  # `name` in a docstring is a link where the reference has that name
smartquotes = False  # it would make one dash of the two of an option
toc_object_entries = False  # of methods: the table of contents would be all of the page

autoclass_content = "both"  # of the class and of `__init__`, where the arguments are
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
add_module_names = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# A prompt, and what a command prints, are not copied.
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
pygments_dark_style = "github-dark"  # the theme's own underlines imports, as if they were links
html_title = "freezekit"
html_extra_path = ["root"]  # index.html, which leads to the first page
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Let docstrings and help be read as they are written."""
    app.connect("autodoc-process-docstring", mark_code)
    app.connect("sphinx-click-process-description", mark_commands)


def mark_code(*args: object) -> None:
    """Mark `code` of a docstring as such. What is a name alone stays, and becomes a link."""
    lines: list[str] = args[-1]  # type: ignore[assignment]  # as Sphinx calls it

    def marked(found: re.Match[str]) -> str:
        role, ticks, text = found.groups()
        is_name = text.replace(".", "_").isidentifier() and not text.startswith(".")
        return found[0] if role or ticks == "``" or is_name else f"``{text}``"

    text = re.sub(r"(:\w+:)?(`+)([^`]+)\2", marked, "\n".join(lines))
    lines[:] = text.split("\n")


def mark_commands(*args: object) -> None:
    """Show the examples of a command, whose lines are not wrapped, as commands."""
    lines: list[str] = args[-1]  # type: ignore[assignment]  # as sphinx-click calls it
    found = []
    for line in lines:
        found += ["Examples::", ""] if line == "| Examples:" else [line.replace("|   ", "   ", 1)]
    lines[:] = found
