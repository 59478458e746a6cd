"""Whether a file may be replaced by results: only if `freezekit bench` or `report` wrote it."""

from __future__ import annotations

import re
from pathlib import Path

from freezekit.errors import OutputError
from freezekit.report.fit_table import QUESTIONS
from freezekit.results.store import extension_of

_LOOKED_AT = 10_000  # characters; all kinds show themselves in their first lines
_STRING = r'"(?:[^"\\]|\\.)*"'
_MEASURED = "peak|saved activations|forward and backward|step time / full"
_BEGINNINGS = {
    ".json": r'(\[\s*)?\{\s*"schema_version"\s*:\s*\d+\s*,\s*"freezekit"',
    ".github.json": rf'\[\s*(\]|\{{\s*"name"\s*:\s*"(?:[^"\\]|\\.)*: ({_MEASURED})")',
    ".bencher.json": rf'\{{\s*(\}}|{_STRING}\s*:\s*\{{\s*(\}}|"(peak-bytes|saved-act|flops|lat)))',
    ".csv": "freezekit,schema_version,",
    ".md": r"\*\*[^\n]+\*\*\n\n\| strategy \|",
    ".html": r'<!doctype html>.{0,1000}<meta name="generator" content="freezekit">',
}


def check_replaceable(path: str | Path) -> None:
    """Raise where a file is there already that holds anything but results of the same kind.

    A file of blanks may be replaced, and a result that is cut off.

    Raises:
        OutputError: It is such a file, or cannot be read.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", errors="replace") as file:
            text = file.read(_LOOKED_AT).lstrip()
    except FileNotFoundError:
        return
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"cannot read {str(path)!r}, which is to be replaced: {reason}") from None
    extension = extension_of(path)
    if text and not is_ours(text, extension):
        raise OutputError(
            f"cannot write {str(path)!r}: it is there already and is no {extension} that "
            "`freezekit bench` wrote; name another file, or remove it first"
        )


def is_ours(text: str, extension: str) -> bool:
    """Tell by how a text begins whether it is a result as the extension says.

    Example:
        >>> is_ours("freezekit,schema_version,protocol", ".csv"), is_ours("a,b", ".csv")
        (True, False)
    """
    if extension == ".md" and any(f": {asked} into " in text.split("\n")[0] for asked in QUESTIONS):
        return False  # what `freezekit fit` wrote
    return re.match(_BEGINNINGS[extension], text, re.DOTALL) is not None
