"""A new plugin distribution, written from a template."""

from __future__ import annotations

import keyword
import os
import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from string import Template
from typing import TYPE_CHECKING

from freezekit.errors import NewPluginError

if TYPE_CHECKING:
    from pathlib import Path

_MEANT_OTHERWISE = ("conftest", "setup")
_IMPORTED = ("Annotated", "Backbone", "ClassVar", "FreezePlan", "PlanError", "Stage", "Strategy")
"""Classes that the written module imports: the strategy's own cannot be called so."""
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def plugin_files(name: str) -> dict[str, str]:
    """Return the files of a plugin with one strategy, by their names.

    Args:
        name: Of the strategy, such as "my-strategy".

    Raises:
        NewPluginError: It is no such name.

    Example:
        >>> sorted(plugin_files("my-strategy"))
        ['README.md', 'my_strategy.py', 'pyproject.toml', 'test_my_strategy.py']
    """
    if not _NAME.fullmatch(name):
        raise NewPluginError(
            f"{name!r} is no name for a strategy: expected small letters, digits and single "
            "hyphens, such as 'my-strategy'"
        )
    module = name.replace("-", "_")
    names = {"name": name, "module": module, "cls": module.title().replace("_", "")}
    template = files("freezekit.plugins") / "template"
    return {
        target: Template((template / source).read_text(encoding="utf-8")).substitute(names)
        for target, source in (
            ("pyproject.toml", "pyproject.toml.txt"),
            ("README.md", "README.md.txt"),
            (f"{module}.py", "module.py.txt"),
            (f"test_{module}.py", "test_module.py.txt"),
        )
    }


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Write a plugin into a folder, which is made if need be; no file is ever overwritten.

    Raises:
        NewPluginError: A bad name, one that hides another module, a file in the way, or the
            folder cannot be written.
    """
    contents = {folder / target: text for target, text in plugin_files(name).items()}
    there = [str(path) for path in contents if os.path.exists(path)]  # noqa: PTH110  # too long a name is none
    if there:
        raise NewPluginError(f"there is {', '.join(there)} already: give another --dir")
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
    """Refuse a module that Python's grammar cannot import, or that hides one that is there."""
    if module in _MEANT_OTHERWISE or module.title().replace("_", "") in _IMPORTED:
        raise NewPluginError(f"{module!r} means something else in a plugin: give another name")
    if keyword.iskeyword(module):
        raise NewPluginError(f"{module!r} is a keyword of Python: give another name")
    if module in sys.stdlib_module_names or find_spec(module):
        raise NewPluginError(
            f"there is a module {module!r} already, and the plugin's would hide it: give another "
            "name"
        )
