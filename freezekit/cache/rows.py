"""Where the rows of a cache are: in memory, or in a folder of safetensors files."""

from __future__ import annotations

import os
import pickle
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from freezekit.errors import CacheError
from freezekit.results.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

VERSION = 1
SHARD_BYTES = 64 * 2**20
"""Of rows in one file: a fill that was interrupted loses at most one file's work."""
HEADER = "cache.json"


class Rows(Protocol):
    """Rows of numbers with what is kept of each sample, by their index."""

    def next_missing(self) -> int:
        """Return the first index that is not filled."""

    def write(self, start: int, rows: Tensor, kept: list[Any]) -> None:
        """Write rows from an index on."""

    def read(self, index: int) -> tuple[Tensor, Any]:
        """Return a row, and what is kept of its sample."""


class RowsInMemory:
    """Rows in one tensor."""

    def __init__(self, count: int, numbers: int, dtype: torch.dtype) -> None:
        self.rows = torch.empty(count, numbers, dtype=dtype)
        self.kept: list[Any] = []  # Any: whatever the data set gives

    def next_missing(self) -> int:
        """Return the first index that is not filled."""
        return len(self.kept)

    def write(self, start: int, rows: Tensor, kept: list[Any]) -> None:
        """Write rows from an index on."""
        self.rows[start : start + len(rows)] = rows
        self.kept[start:] = kept

    def read(self, index: int) -> tuple[Tensor, Any]:
        """Return a row, and what is kept of its sample."""
        return self.rows[index], self.kept[index]


class Header(msgspec.Struct, frozen=True):
    """What a folder holds.

    Attributes:
        version: Of the format.
        count: Rows in all.
        numbers: Numbers of a row.
        dtype: Of the numbers, such as "float32".
        rows_per_file: The last file may have fewer.
        fingerprint: What the rows depend on.
    """

    version: int
    count: int
    numbers: int
    dtype: str
    rows_per_file: int
    fingerprint: dict[str, str]


class RowsInFolder:
    """Rows in files of safetensors, which are mapped into memory and read when they are needed.

    Each file is written whole or not at all; so an interrupted fill goes on after the last one.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder, self.header = folder, header
        self._open = lru_cache(maxsize=None)(self._read_file)
        self._pending: tuple[list[Tensor], list[Any]] = [], []

    def __getstate__(self) -> dict[str, Any]:  # Any: the protocol of pickle
        """A worker of a data loader opens the files itself."""
        return {"folder": self.folder, "header": self.header}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: as above
        self.__init__(**state)  # type: ignore[misc]  # the same fields

    @staticmethod
    def at(
        folder: Path, count: int, numbers: int, dtype: torch.dtype, marks: dict[str, str]
    ) -> RowsInFolder:
        """Open a folder, or begin one.

        Raises:
            CacheError: The folder holds something else, or a cache of something else.
        """
        size = numbers * dtype.itemsize
        header = Header(
            VERSION,
            count,
            numbers,
            str(dtype).removeprefix("torch."),
            max(1, SHARD_BYTES // size),
            marks,
        )
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / HEADER
        if path.exists():
            _check_same(_read_header(path), header, folder)
        elif any(folder.iterdir()):
            raise CacheError(
                f"the folder {str(folder)!r} is not empty and holds no cache; give another"
            )
        else:
            write_text(path, msgspec.json.format(msgspec.json.encode(header)).decode())
        return RowsInFolder(folder, header)

    def next_missing(self) -> int:
        """Return the first index that is not in a whole file."""
        header = self.header
        for number in range(-(-header.count // header.rows_per_file)):
            if not self._samples(number).exists():  # written last
                return number * header.rows_per_file
        return header.count

    def write(self, start: int, rows: Tensor, kept: list[Any]) -> None:
        """Take rows from an index on; they are written once they make a file."""
        pending, samples = self._pending
        pending.extend(rows.unbind())
        samples.extend(kept)
        end, size = start + len(rows), self.header.rows_per_file
        while len(pending) >= size or (pending and end == self.header.count):
            number = (end - len(pending)) // size
            self._write_file(number, torch.stack(pending[:size]), samples[:size])
            del pending[:size], samples[:size]

    def read(self, index: int) -> tuple[Tensor, Any]:
        """Return a row, mapped into memory, and what is kept of its sample."""
        number, place = divmod(index, self.header.rows_per_file)
        rows, kept = self._open(number)
        return rows[place], kept[place]

    def _write_file(self, number: int, rows: Tensor, kept: list[Any]) -> None:
        try:
            for path, write in (
                (self._rows(number), lambda p: save_file({"rows": rows}, p)),
                (self._samples(number), lambda p: torch.save(kept, p)),
            ):
                draft = path.with_suffix(".draft")
                write(draft)
                if path == self._samples(number):
                    _check_readable(draft)
                os.replace(draft, path)  # noqa: PTH105  # the same name on all systems
        except (OSError, RuntimeError, SafetensorError) as error:
            draft.unlink(missing_ok=True)
            raise CacheError(
                f"cannot write {str(path)!r}: {error}; what was written before is kept, and the "
                "same call goes on from there"
            ) from error

    def _read_file(self, number: int) -> tuple[Tensor, list[Any]]:
        header, path = self.header, self._rows(number)
        try:
            with safe_open(path, "pt") as file:
                rows: Tensor = file.get_tensor("rows")
            kept: list[Any] = torch.load(self._samples(number), weights_only=True)
        except Exception as error:  # safetensors and pickle raise errors of many kinds
            raise CacheError(
                f"cannot read {str(path)!r}: {error}; delete the folder and fill it anew"
            ) from error
        size = min(header.rows_per_file, header.count - number * header.rows_per_file)
        if tuple(rows.shape) != (size, header.numbers) or len(kept) != size:
            raise CacheError(
                f"{str(path)!r} has {tuple(rows.shape)} numbers and {len(kept)} samples, expected "
                f"{(size, header.numbers)}; delete the folder and fill it anew"
            )
        return rows, kept

    def _rows(self, number: int) -> Path:
        return self.folder / f"rows-{number:05}.safetensors"

    def _samples(self, number: int) -> Path:
        return self.folder / f"samples-{number:05}.pt"


def _check_readable(path: Path) -> None:
    """Refuse samples that a file would not give back.

    Raises:
        CacheError: They hold objects other than data.
    """
    try:
        torch.load(path, weights_only=True)
    except pickle.UnpicklingError as error:
        path.unlink()
        raise CacheError(
            "a sample has more beside its image than a file can keep safely: give tensors, "
            f"numbers, texts, lists and dicts, or keep the cache in memory ({error!s:.200})"
        ) from error


def _read_header(path: Path) -> Header:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Header)
    except (OSError, msgspec.MsgspecError) as error:
        raise CacheError(f"cannot read {str(path)!r}: {error}") from error


def _check_same(found: Header, wanted: Header, folder: Path) -> None:
    facts = {**found.fingerprint, "number of rows": str(found.count), "format": str(found.version)}
    mine = {
        **wanted.fingerprint,
        "number of rows": str(wanted.count),
        "format": str(wanted.version),
    }
    for name in mine:
        if facts.get(name) != mine[name]:
            raise CacheError(
                f"the cache in {str(folder)!r} is of something else: {name} was "
                f"{facts.get(name)}, and is {mine[name]}; give another folder, or delete it"
            )
