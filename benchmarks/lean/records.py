"""The result file of `table.py`: a row for each model and spec, each written when it is known."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import freezekit
from benchmarks.facts import environment, write_whole
from benchmarks.lean.cases import MODELS, SPECS, spec_of

if TYPE_CHECKING:
    from collections.abc import Iterator

OUT = Path(__file__).parents[1] / "results" / "lean-memory.json"

Row = dict[str, Any]
_COUNTING = "bound.py", "cases.py", "frozen_batch_norm.py", "needs.py", "sessions.py"


def code_digest() -> str:
    """Return a digest of all code that a row depends on: lean's own, and the code that counts."""
    package = Path(freezekit.__file__).parent
    files = sorted(p for p in (package / "lean").rglob("*") if p.suffix in (".py", ".h", ".cpp"))
    files += [package / "memory" / name for name in ("tracker.py", "fake.py")]
    files += [Path(__file__).with_name(name) for name in _COUNTING]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


class Records:
    """The rows of a result file, to which two processes may write at the same time."""

    def __init__(self, path: Path = OUT) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> dict[str, Any]:
        """Return the whole file: environment, rows, and the check of inductor."""
        if not self.path.exists():
            return {"environment": {}, "rows": [], "inductor": []}
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found

    def row(self, model: str, name: str) -> Row:
        """Return the row of a model and a spec, given by the name of its column."""
        for row in self.read()["rows"]:
            if (row["model"], row["strategy"]) == (model, name):
                return row  # type: ignore[no-any-return]  # JSON
        return {"model": model, "strategy": name, "spec": spec_of(name, model)}

    def put(self, model: str, name: str, **figures: Any) -> Row:
        """Add figures to a row, or replace them."""
        with self._locked():
            everything = self.read()
            row = {**self.row(model, name), **figures}
            key = model, name
            rows = [r for r in everything["rows"] if (r["model"], r["strategy"]) != key]
            everything["rows"] = sorted([*rows, row], key=_place)
            everything["environment"] = environment()
            self._write(everything)
        return row

    def put_apart(self, key: str, value: Any) -> None:
        """Set an entry beside the rows."""
        with self._locked():
            self._write({**self.read(), key: value})

    def _write(self, everything: dict[str, Any]) -> None:
        write_whole(self.path, everything)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _place(row: Row) -> tuple[int, int]:
    return list(MODELS).index(row["model"]), SPECS.index(row["strategy"])
