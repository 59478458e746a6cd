"""Output files by format: the extension says what is written, and only our own are replaced."""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from freezekit.errors import OutputError
from freezekit.results.files import check_target, reason, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_LOOKED_AT = 10_000  # characters; every format shows itself in its first lines


@dataclass(frozen=True)
class Format(Generic[T]):
    """One kind of file.

    Attributes:
        extension: Such as ".json"; the longest that fits a path counts.
        render: From what is shown to the text of the file.
        begins: A regular expression for how such a file begins, by which ours is recognised.
        requires: Packages that `render` needs, of the extra "report".
        is_slow: Whether it takes a second or more, so that it is written once, at the end.
    """

    extension: str
    render: Callable[[T], str]
    begins: str
    requires: tuple[str, ...] = ()
    is_slow: bool = False

    def recognises(self, text: str) -> bool:
        """Tell by how a text begins whether freezekit wrote it in this format."""
        return re.match(self.begins, text, re.DOTALL) is not None


def format_of(path: str | Path, formats: Sequence[Format[T]]) -> Format[T]:
    """Return the format that a path's extension names; letters may be of either case.

    Raises:
        OutputError: It names none of them.

    Example:
        >>> from freezekit.report.formats import RESULT_FORMATS
        >>> format_of("resnet.bencher.JSON", RESULT_FORMATS).extension
        '.bencher.json'
    """
    name = Path(path).name.lower()
    fitting = [f for f in formats if name.endswith(f.extension) and name != f.extension]
    if not fitting:
        extension = Path(path).suffix
        found = f"the extension {extension!r}" if extension else "a name without extension"
        *others, last = (known.extension for known in formats)
        raise OutputError(
            f"cannot write {str(path)!r}: {found} is none that this command writes; "
            f"expected {', '.join(others)} or {last}"
        )
    return max(fitting, key=lambda known: len(known.extension))


def check_writable(path: str | Path, formats: Sequence[Format[T]]) -> None:
    """Raise unless a file of that format could be written there; nothing that exists is touched.

    To be called before hours of measuring, not after.

    Raises:
        OutputError: The extension is unknown, what its format requires is not there, or the place
            takes no file; the message says what to do.

    Example:
        >>> from freezekit.report.formats import RESULT_FORMATS
        >>> check_writable("results.xlsx", RESULT_FORMATS)
        Traceback (most recent call last):
        ...
        freezekit.errors.OutputError: cannot write 'results.xlsx': the extension '.xlsx' ...
    """
    check_target(path)
    _check_packages(path, format_of(path, formats))


def check_replaceable(path: str | Path, formats: Sequence[Format[T]]) -> None:
    """Raise where a file is there already that freezekit did not write in this format.

    A file of blanks may be replaced, and one of ours that is cut off.

    Raises:
        OutputError: It is such a file, or cannot be read.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", errors="replace") as file:
            text = file.read(_LOOKED_AT).lstrip()
    except FileNotFoundError:
        return
    except OSError as error:
        why = reason(error)
        raise OutputError(f"cannot read {str(path)!r}, which is to be replaced: {why}") from None
    found = format_of(path, formats)
    if text and not found.recognises(text):
        raise OutputError(
            f"cannot write {str(path)!r}: it is there already and is no {found.extension} that "
            "this command of freezekit wrote; name another file, or remove it first"
        )


def write(content: T, formats: Sequence[Format[T]], *paths: str | Path) -> None:
    """Write one content to several files, each as its extension says, whole or not at all.

    All are made before the first is written: where one cannot be made, none is written.

    Raises:
        OutputError: An extension is unknown, what a format requires is not there, or a file cannot
            be written.
    """
    texts = []
    for path in paths:
        found = format_of(path, formats)
        _check_packages(path, found)
        texts.append(found.render(content))
    for path, text in zip(paths, texts, strict=True):
        write_text(path, text)


def _check_packages(path: str | Path, found: Format[T]) -> None:
    """Raise where a package that a format requires is missing, or cannot be imported."""
    start = f"cannot write {str(path)!r}: {found.extension} needs"
    missing = [name for name in found.requires if not _is_installed(name)]
    if missing:
        raise OutputError(
            f"{start} {' and '.join(missing)}, not installed here: pip install 'freezekit[report]'"
        )
    for name in found.requires:
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken package may raise anything
            raise OutputError(
                f"{start} {name}, which is installed but broken ({type(error).__name__}: {error}); "
                f"install it anew, or write no {found.extension}"
            ) from error


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # an import hook refuses it
        return False
