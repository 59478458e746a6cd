"""A new plugin distribution, written from a template."""

from __future__ import annotations

import keyword
import os
import re
import sys
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from string import Template
from typing import TYPE_CHECKING

from freezekit.errors import NewPluginError

if TYPE_CHECKING:
    from pathlib import Path

_RESERVED_MODULES = ("conftest", "setup")
"""pytest and setuptools run modules of these names."""
_IMPORTED = (
    *("Annotated", "Backbone", "ClassVar", "Decision", "FreezePlan", "PlanError", "Progress"),
    *("Schedule", "Stage", "Strategy", "TrainingTime"),
)
"""Names that a written module imports: the class that it defines must not hide one of them."""
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Content:
    """What a written plugin provides.

    Attributes:
        kind: "strategy" or "schedule".
        kinds: The plural, which is the command that lists them.
        try_it: A command that shows what it does; NAME stands for its name.
        contents: What the module contains.
    """

    kind: str
    kinds: str
    try_it: str
    contents: str


STRATEGY = Content(
    "strategy",
    "strategies",
    "freezekit bench -s NAME",
    "the strategy with its options, and the stages of one\nmodel",
)
SCHEDULE = Content(
    "schedule",
    "schedules",
    "freezekit show torchvision:resnet18 --schedule NAME --epochs 4",
    "the schedule with its options",
)


def plugin_files(name: str, content: Content = STRATEGY) -> dict[str, str]:
    """Return the text of each file of a plugin with one strategy or schedule, by file name.

    Args:
        name: The name of the strategy or schedule, such as "my-strategy".
        content: Which of the two.

    Raises:
        NewPluginError: The name is not valid.

    Example:
        >>> sorted(plugin_files("my-strategy"))
        ['README.md', 'my_strategy.py', 'pyproject.toml', 'test_my_strategy.py']
    """
    if not _NAME.fullmatch(name):
        raise NewPluginError(
            f"{name!r} is not a valid name of a {content.kind}: expected lower-case letters, "
            f"digits and single hyphens, such as 'my-{content.kind}'"
        )
    module = name.replace("-", "_")
    names = {
        "name": name,
        "module": module,
        "cls": module.title().replace("_", ""),
        "kind": content.kind,
        "kinds": content.kinds,
        "try_it": content.try_it.replace("NAME", name),
        "contents": content.contents,
    }
    template = files("freezekit.plugins") / "template"
    return {
        target: Template((template / source).read_text(encoding="utf-8")).substitute(names)
        for target, source in (
            ("pyproject.toml", "pyproject.toml.txt"),
            ("README.md", "README.md.txt"),
            (f"{module}.py", f"{content.kind}.py.txt"),
            (f"test_{module}.py", f"test_{content.kind}.py.txt"),
        )
    }


def write_plugin(name: str, folder: Path, content: Content = STRATEGY) -> list[Path]:
    """Write a plugin into a folder. The folder is made if it does not exist.

    No file is overwritten.

    Raises:
        NewPluginError: The name is not valid or hides another module, one of the files exists, or
            the folder cannot be written.
    """
    contents = {folder / target: text for target, text in plugin_files(name, content).items()}
    # Path.exists raises for a name that is too long; os.path.exists says that it does not exist.
    existing = [str(path) for path in contents if os.path.exists(path)]  # noqa: PTH110
    if existing:
        raise NewPluginError(f"{', '.join(existing)} already exists; give another --dir")
    _check_free(name.replace("-", "_"))
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in contents.items():
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            path.unlink()
        raise NewPluginError(f"cannot write {folder}: {error.strerror}") from error
    return written


def _check_free(module: str) -> None:
    """Refuse a module name that Python cannot import, or that would hide another module."""
    if module in _RESERVED_MODULES or module.title().replace("_", "") in _IMPORTED:
        raise NewPluginError(f"{module!r} has another meaning in a plugin; give another name")
    if keyword.iskeyword(module):
        raise NewPluginError(f"{module!r} is a keyword of Python; give another name")
    if module in sys.stdlib_module_names or find_spec(module):
        raise NewPluginError(
            f"a module {module!r} already exists, and the plugin would hide it; give another name"
        )
