"""Rows of a cache in a folder of safetensors files."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import filelock
import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from freezekit.cache.ranks import place_among_ranks
from freezekit.cache.rows import unit_rows, units_of
from freezekit.errors import CacheError, OutputError
from freezekit.results.files import write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from freezekit.cache.encoding import Encoding

VERSION = 2
HEADER = "cache.json"
OWN = "boundary-"
"""How the name of the folder of a boundary begins."""


class Header(msgspec.Struct, frozen=True):
    """What a folder holds.

    Attributes:
        version: Of the format.
        count: Rows in all.
        width: Elements of a row.
        dtype: Of the elements, such as "float32".
        rows_per_file: The last file may have fewer.
        fingerprint: What the rows depend on.
    """

    version: int
    count: int
    width: int
    dtype: str
    rows_per_file: int
    fingerprint: dict[str, str]


class RowsInFolder:
    """Rows in files of safetensors, which are mapped into memory and read when they are needed.

    Each file is written whole or not at all; so an interrupted fill goes on with what is missing.
    """

    is_shared = True

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder = folder
        self.header = header
        self._open = lru_cache(maxsize=None)(self._read_file)

    def __getstate__(self) -> dict[str, Any]:  # Any: the protocol of pickle
        """A worker of a data loader opens the files itself."""
        return {"folder": self.folder, "header": self.header}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: as above
        self.__init__(**state)  # type: ignore[misc]  # the same fields

    def missing(self) -> list[range]:
        """Return the units that have no whole file."""
        units = units_of(self.header.count, self.header.rows_per_file)
        return [unit for number, unit in enumerate(units) if not self._is_whole(number)]

    def write(self, unit: range, rows: Tensor, kept: list[Any]) -> None:
        """Write the file of a unit.

        Raises:
            CacheError: It cannot be written, or a sample cannot be kept in a file.
        """
        number = unit.start // self.header.rows_per_file
        path = self._rows(number)
        try:
            # The file writer of safetensors makes files that other users cannot read.
            data = save({"rows": rows.contiguous()}, self._label(number))
            self._write_whole(path, lambda p: p.write_bytes(data))
            path = self._samples(number)
            self._write_whole(path, lambda p: _save_samples(kept, p))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise CacheError(
                f"cannot write {str(path)!r}: {error}; what was written before is kept, and the "
                "same call goes on from there"
            ) from error

    def read(self, index: int) -> tuple[Tensor, Any]:
        """Return a row, mapped into memory, and what is kept of its sample."""
        number, place = divmod(index, self.header.rows_per_file)
        rows, kept = self._open(number)
        return rows[place], kept[place]

    def remove(self) -> None:
        """Remove the folder of the boundary; one rank does it for all."""
        if place_among_ranks()[0] == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _label(self, number: int) -> dict[str, str]:
        """Return what a file says of itself: one of another place or cache is not taken."""
        return {"file": str(number), **self.header.fingerprint}

    def _is_whole(self, number: int) -> bool:
        samples = self._samples(number)  # written last
        if not samples.exists() or not samples.stat().st_size:
            return False
        try:
            with safe_open(self._rows(number), "pt") as file:  # it compares sizes with its header
                return bool(file.metadata() == self._label(number))
        except (OSError, SafetensorError):
            return False

    def _write_whole(self, path: Path, write: Callable[[Path], object]) -> None:
        draft = path.with_suffix(".draft")
        try:
            write(draft)
            os.replace(draft, path)  # noqa: PTH105  # the same name on all systems
        finally:
            draft.unlink(missing_ok=True)

    def _read_file(self, number: int) -> tuple[Tensor, list[Any]]:
        header, path = self.header, self._rows(number)
        try:
            with safe_open(path, "pt") as file:
                rows: Tensor = file.get_tensor("rows")
            kept: list[Any] = torch.load(self._samples(number), weights_only=True)
        except Exception as error:  # safetensors and pickle raise errors of many kinds
            raise CacheError(
                f"cannot read {str(path)!r} or its samples: {error or type(error).__name__}; call "
                "frozen.cache(...) again, which fills what is damaged. Another training that uses "
                "this folder may have moved it"
            ) from error
        size = min(header.rows_per_file, header.count - number * header.rows_per_file)
        if tuple(rows.shape) != (size, header.width) or len(kept) != size:
            raise CacheError(
                f"{str(path)!r} has {tuple(rows.shape)} numbers and {len(kept)} samples, expected "
                f"{(size, header.width)}; delete the folder and fill it anew"
            )
        return rows, kept

    def _rows(self, number: int) -> Path:
        return self.folder / f"rows-{number:05}.safetensors"

    def _samples(self, number: int) -> Path:
        return self.folder / f"samples-{number:05}.pt"


def open_folder(
    folder: Path,
    count: int,
    encoding: Encoding,
    batch_size: int,
    marks: dict[str, str],
) -> RowsInFolder:
    """Open the rows of a boundary in a folder, or begin them.

    Each boundary has a folder of its own in it, as a schedule may move from one to another.

    Raises:
        CacheError: The folder holds something else, or a cache of something else, or it cannot be
            written.
    """
    header = Header(
        VERSION,
        count,
        encoding.width,
        str(encoding.stored).removeprefix("torch."),
        unit_rows(encoding.row_bytes, batch_size),
        marks,
    )
    digest = hashlib.sha256(marks["boundary"].encode()).hexdigest()[:8]
    own = folder / f"{OWN}{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(not path.name.startswith(OWN) for path in folder.iterdir()):
            raise CacheError(
                f"the folder {str(folder)!r} is not empty and holds no cache; give another"
            )
        own.mkdir(exist_ok=True)
        path = own / HEADER
        if path.exists():
            _check_same(_read_header(path), header, folder)
        elif any(own.glob("rows-*")):
            raise CacheError(
                f"the folder {str(own)!r} has rows and no {HEADER}, so that nobody knows what they "
                "are; delete it"
            )
        else:
            write_text(path, msgspec.json.format(msgspec.json.encode(header)).decode())
    except (OSError, OutputError) as error:
        raise CacheError(f"cannot write a cache in {str(folder)!r}: {error}") from error
    return RowsInFolder(own, header)


@contextmanager
def only_this_process_fills(rows: RowsInFolder) -> Iterator[None]:
    """Keep other processes from filling the same rows.

    Raises:
        CacheError: Another process fills them.
    """
    lock = filelock.FileLock(rows.folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise CacheError(
            f"another process fills the cache in {str(rows.folder.parent)!r}; wait until it has "
            "ended, then the same call takes what it filled"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _save_samples(kept: list[Any], path: Path) -> None:
    """Write samples, and refuse those that a file would not give back.

    Raises:
        CacheError: They hold objects other than data.
    """
    torch.save(kept, path)
    try:
        torch.load(path, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CacheError(
            "a sample has more beside its image than a file can keep safely: give tensors, "
            f"numbers, texts, lists and dicts, or keep the cache in memory ({error!s:.200})"
        ) from error


def _read_header(path: Path) -> Header:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Header)
    except (OSError, msgspec.MsgspecError) as error:
        raise CacheError(
            f"cannot read {str(path)!r}: {error}; delete its folder and fill it anew"
        ) from error


def _check_same(found: Header, wanted: Header, folder: Path) -> None:
    facts = {**found.fingerprint, "number of rows": str(found.count), "format": str(found.version)}
    mine = {
        **wanted.fingerprint,
        "number of rows": str(wanted.count),
        "format": str(wanted.version),
    }
    for name in mine:
        if facts.get(name) != mine[name]:
            what = "other samples, labels or transforms" if name == "data" else "something else"
            raise CacheError(
                f"the cache in {str(folder)!r} is of {what}: {name} was "
                f"{facts.get(name)}, and is {mine[name]}; give another folder, or delete it"
            )
