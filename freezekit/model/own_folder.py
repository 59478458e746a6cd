"""Where the user's own modules are found: in a folder that is not on the import path otherwise.

Were the folder first on the path, as `python file.py` has it, then a "packaging.py" in it would run
as soon as any library imports `packaging`.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_current: list[str] = []


def look_in_current_folder() -> None:
    """Let "package.module:factory" be found in the current folder, too, as a command line does.

    No module is looked up there before such a text is read.
    """
    with suppress(FileNotFoundError):  # it was removed
        _current[:] = [os.getcwd()]  # noqa: PTH109  # the path holds strings


def claim_for_current_folder(module: str) -> None:
    """Call `look_first_in` for the current folder, if that was chosen."""
    for folder in _current:
        look_first_in(folder, module)


def look_first_in(folder: str, module: str) -> None:
    """Let a module be found in a folder, and all that its code imports.

    Its code, and that of the modules found there, looks there first. All other code looks there
    last, so that nothing there takes the place of a library's module.

    Args:
        folder: Its absolute path.
        module: The name of the module, without those of packages in it.

    Example:
        >>> look_first_in("/home/me/models", "my_model")
        >>> sys.path.pop(), sys.meta_path.pop(0).folder
        ('/home/me/models', '/home/me/models')
    """
    finders = [finder for finder in sys.meta_path if isinstance(finder, _FirstInFolder)]
    for finder in finders:
        finder.modules.discard(module)
    mine = next((finder for finder in finders if finder.folder == folder), None)
    if mine is None:
        mine = _FirstInFolder(folder)
        sys.meta_path.insert(0, mine)
    mine.modules.add(module)
    if folder not in sys.path:
        sys.path.append(folder)


def own_files() -> list[tuple[str, Path]]:
    """Return the user's own modules that are imported, by name, each with its file.

    These are the modules that were named to freezekit, and all that they import from their folders.

    Example:
        >>> all(path.is_file() for name, path in own_files())
        True
    """
    finders = [finder for finder in sys.meta_path if isinstance(finder, _FirstInFolder)]
    own = set().union(*(finder.modules for finder in finders))
    found = {
        name: Path(file)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in own and (file := getattr(module, "__file__", None))
    }
    return sorted((name, path) for name, path in found.items() if path.is_file())


class _FirstInFolder(MetaPathFinder):
    """Finds in a folder what is imported by the modules that are from there.

    Attributes:
        folder: The folder.
        modules: Those that are from there, or are to be found there.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.modules: set[str] = set()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find a module; those in packages, and of other importers, are for the other finders."""
        if path is not None or fullname in sys.builtin_module_names:
            return None
        if fullname not in self.modules and _importer() not in self.modules:
            return None
        found = PathFinder.find_spec(fullname, [self.folder], target)
        if found is not None:
            self.modules.add(fullname)
        return found


def _importer() -> str:
    """Return the module, without those of packages in it, whose code runs the present import."""
    frame = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__")).partition(".")[0]
        if name not in ("importlib", "_frozen_importlib", "_frozen_importlib_external") and (
            frame.f_globals is not globals()
        ):
            return name
        frame = frame.f_back  # type: ignore[assignment]  # None at the end
    return ""
