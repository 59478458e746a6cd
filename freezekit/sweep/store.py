"""The file of a sweep: JSON, read strictly."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.json import schema_components

from freezekit.errors import OutputError
from freezekit.results import records as results
from freezekit.results.files import read_text
from freezekit.results.reading import FileKind, read_objects, writable
from freezekit.sweep import records
from freezekit.sweep.records import Sweep
from freezekit.training import records as training

if TYPE_CHECKING:
    from pathlib import Path

_FIRST = ("kind", "schema_version", "freezekit", "complete", "recommended", "sentences", "notes")


def to_json(sweep: Sweep) -> str:
    """Return a sweep as a JSON object. A figure that is not finite becomes null.

    Example:
        >>> from freezekit.sweep.records import Settings
        >>> from freezekit.training.records import DataFacts
        >>> data = DataFacts("photos", ("a", "b"), 80, 20, "given", "0")
        >>> sweep = Sweep("0.1.0", data, Settings(5, (0, 1, 2)), env={})
        >>> from_json(to_json(sweep)) == sweep
        True
    """
    data = writable(msgspec.to_builtins(sweep))
    ordered = {name: data.pop(name) for name in _FIRST}
    return msgspec.json.format(msgspec.json.encode({**ordered, **data}), indent=2).decode() + "\n"


def from_json(text: str, source: str = "the text") -> Sweep:
    """Return the sweep that `to_json` wrote.

    Args:
        text: The content of a file of `freezekit sweep`.
        source: How error messages call it, such as the file's name.

    Raises:
        OutputError: The text is cut off, is not JSON, is of another command or tool, or was written
            by an older or newer freezekit whose files differ; the message says what to do.

    Example:
        >>> from_json('{"kind": "freezekit fit"}', "fit.json")
        Traceback (most recent call last):
        ...
        freezekit.errors.OutputError: 'fit.json' is not a freezekit sweep: it is what ...
    """
    found = read_objects(text, source, _SWEEP)
    if len(found) > 1:
        raise OutputError(f"{source!r} holds {len(found)} sweeps; expected one: give each a file")
    return found[0]


def load_sweep(path: str | Path) -> Sweep:
    """Return the sweep of a file.

    Raises:
        OutputError: The file cannot be read, or is no file of `freezekit sweep`.
    """
    return from_json(read_text(path), str(path))


def sweep_schema() -> dict[str, Any]:  # Any: JSON
    """Return what `freezekit sweep -o FILE.json` writes, as a JSON Schema of draft 2020-12.

    Example:
        >>> sorted(sweep_schema()["$defs"])[:3]
        ['BudgetChoice', 'Candidate', 'DataFacts']
    """
    (run,), components = schema_components([Sweep], ref_template="#/$defs/{name}")
    for name, component in components.items():
        homes = (records, training, results)
        found = next(getattr(home, name) for home in homes if hasattr(home, name))
        component["description"] = inspect.getdoc(found)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:freezekit:sweep:{results.SCHEMA_VERSION}",
        "title": "freezekit sweep",
        "description": "All candidates of a sweep, with their trials. Bytes, seconds and fractions "
        "throughout; null is a figure that was not obtained.",
        **run,
        "$defs": components,
    }


def _check(sweep: Sweep, where: str) -> None:
    """Refuse two rows of one label, and a row without a baseline, which types do not tell.

    Raises:
        ValidationError: The message names the place.
    """
    first: dict[str, int] = {}
    for i, row in enumerate(sweep.rows):
        if first.setdefault(row.label, i) != i:
            raise msgspec.ValidationError(
                f"{where}rows[{i}] is {row.label!r}, which {where}rows[{first[row.label]}] is too"
            )
    baselines = {row.candidate.model for row in sweep.rows if row.is_baseline}
    for i, row in enumerate(sweep.rows):
        if row.candidate.model not in baselines:
            raise msgspec.ValidationError(f"{where}rows[{i}] has no baseline of its model")


_SWEEP = FileKind(Sweep, "freezekit sweep", "train again with --resume", _check)
