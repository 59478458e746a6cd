"""What the bits of a training depend on beside its recipe; no torch."""

from __future__ import annotations

import ast
import hashlib
import sys
from contextlib import suppress
from importlib.metadata import version
from importlib.util import resolve_name
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit import __version__
from freezekit.model.own_folder import own_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from freezekit.training.records import DataFacts

LIBRARIES = ("torch", "torchvision", "timm")


def facts_of(data: DataFacts, metrics: Mapping[str, str]) -> dict[str, str]:
    """Return what all trainings of a sweep depend on.

    Args:
        data: The images.
        metrics: What figures answers hold beside the built-in ones: texts of metrics, and what
            their code comes from.

    Example:
        >>> from freezekit.training.records import DataFacts
        >>> facts_of(DataFacts("photos", ("a", "b"), 8, 2, "made", "1f"), {})["data"]
        '1f'
    """
    own = {f"metric {text}": code for text, code in metrics.items()}
    return {"data": data.digest, "freezekit": __version__, **versions(), **own}


def versions() -> dict[str, str]:
    """Return the versions of the libraries that compute."""
    return {name: version(name) for name in LIBRARIES}


def code_digest(text: str) -> str:
    """Return the digest of the code that a user's text names; "" of a model of a library.

    The code is the file in "path/to/file.py:function" or "package.module:function", and what it
    imports of the user's own modules, as far as this process has imported them.

    Args:
        text: Of a model or a metric.

    Example:
        >>> code_digest("timm:resnet18")
        ''
    """
    source = text.rpartition(":")[0]
    if source in LIBRARIES:
        return ""
    is_file = source.endswith(".py")
    file = source if is_file else getattr(sys.modules.get(source), "__file__", None)
    if not file or not Path(file).is_file():
        return ""
    digest = hashlib.sha256()
    for path in _own_code(Path(file), "" if is_file else source):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _own_code(path: Path, name: str) -> Iterable[Path]:
    """Yield a file, and those of the user's own modules that it imports, each once."""
    own = dict(own_files())
    left, seen = [(path, name)], set()
    while left:
        path, name = left.pop()
        if path.resolve() not in seen:
            seen.add(path.resolve())
            yield path
            left += sorted((own[each], each) for each in _imports(path, name) & own.keys())


def _imports(path: Path, name: str) -> set[str]:
    """Return the modules that a module's code may import, and the packages that hold these."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except SyntaxError:
        return set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            with suppress(ImportError):  # relative, and beyond the package
                if node.level:
                    module = resolve_name("." * node.level + module, package)
                found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return {each for module in found for each in accumulate(module.split("."), "{}.{}".format)}
