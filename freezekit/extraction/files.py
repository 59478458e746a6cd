"""The files of features: each is written whole or not at all, and the index comes last."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from freezekit.errors import OutputError
from freezekit.extraction.boundary import FeatureTensor  # noqa: TC001  # msgspec reads it
from freezekit.results.files import reason, write_text
from freezekit.results.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

VERSION = 1
"""Of the format."""
INDEX = "index.json"
PATTERN = "features-{:05}.safetensors"
SKIPPED = "skipped"
"""Key of the metadata that lists the images of a file which could not be read."""


class FeatureFile(msgspec.Struct, frozen=True):
    """One file of features.

    Attributes:
        name: Its name in the folder.
        samples: How many rows it has.
    """

    name: str
    samples: int


class Index(msgspec.Struct, frozen=True):
    """What a folder of features holds. It is written last: where it is, the folder is complete.

    Attributes:
        metadata: All that the features depend on, as in each file.
        samples: Rows in all.
        numbers: Columns.
        dtype: Of the features, such as "float32".
        tensors: What is in a row, in its order.
        classes: Names by label; () where there are no labels.
        feature_files: In the order of the samples.
        files: The image of each row, below the folder of images.
        skipped: Images that could not be read, and have no row.
    """

    metadata: dict[str, str]
    samples: int
    numbers: int
    dtype: str
    tensors: tuple[FeatureTensor, ...]
    classes: tuple[str, ...]
    feature_files: tuple[FeatureFile, ...]
    files: tuple[str, ...]
    skipped: tuple[str, ...] = ()


def check_output(folder: Path) -> list[str]:
    """Return the names of the files in a folder, which may be missing.

    Raises:
        OutputError: It is no folder, or has files of something else.
    """
    if not folder.exists():
        return []
    try:
        names = sorted(path.name for path in folder.iterdir())
    except NotADirectoryError:
        raise OutputError(f"cannot write to {str(folder)!r}: it is a file; name a folder") from None
    except OSError as error:
        raise OutputError(f"cannot write to {str(folder)!r}: {reason(error)}") from None
    for name in names:
        if name != INDEX and not re.fullmatch(r"features-\d{5,}\.(safetensors|draft)", name):
            raise OutputError(
                f"the folder {str(folder)!r} holds something else, such as {name!r}; name an empty "
                "folder or a new one"
            )
    return names


class FeatureFolder:
    """A folder of features that is filled, or was filled before.

    Args:
        folder: It is made where it is missing.
        metadata: All that the features depend on.

    Raises:
        OutputError: The folder holds something else, or features of something else.
    """

    def __init__(self, folder: Path, metadata: Mapping[str, str]) -> None:
        self.folder = folder
        self.metadata: dict[str, str] = {"format": str(VERSION), **metadata}
        names = check_output(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make {str(folder)!r}: {reason(error)}") from None
        for name in names:
            if name == INDEX:
                index = self.index()
                self._check_same(index.metadata if index else {})
            elif name.endswith(".draft"):
                (folder / name).unlink()  # a process was killed
            else:
                self._check_same(self._metadata_of(name))

    def has(self, number: int) -> bool:
        """Tell whether a file is there, which then is whole."""
        return (self.folder / PATTERN.format(number)).exists()

    def skipped(self, number: int) -> tuple[str, ...]:
        """Return the images without a row in a file."""
        return tuple(json.loads(self._metadata_of(PATTERN.format(number)).get(SKIPPED, "[]")))

    def index(self) -> Index | None:
        """Return the index, None where the folder is not complete.

        Raises:
            OutputError: It cannot be read.
        """
        path = self.folder / INDEX
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(path.read_bytes(), type=Index)
        except (OSError, msgspec.MsgspecError) as error:
            raise OutputError(
                f"{str(path)!r} is no index of features ({error}); name an empty folder or a new "
                "one"
            ) from None

    def write(self, number: int, tensors: Mapping[str, Tensor], skipped: tuple[str, ...]) -> None:
        """Write a file whole, or leave nothing.

        Raises:
            OutputError: It cannot be written.
        """
        path = self.folder / PATTERN.format(number)
        draft = path.with_suffix(".draft")
        metadata = {**self.metadata, **({SKIPPED: json.dumps(skipped)} if skipped else {})}
        try:
            with draft.open("wb") as file:  # safetensors' own would let nobody else read it
                file.write(save(dict(tensors), metadata))
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)  # noqa: PTH105  # the same name on all systems
        except (OSError, SafetensorError) as error:
            draft.unlink(missing_ok=True)
            raise OutputError(
                f"cannot write {str(path)!r}: {error}; the files before it are whole, and the same "
                "command goes on from there"
            ) from error

    def write_index(self, index: Index) -> None:
        """Write the index, after all files.

        Raises:
            OutputError: It cannot be written.
        """
        text = msgspec.json.format(msgspec.json.encode(index)).decode()
        write_text(self.folder / INDEX, f"{text}\n")

    def _metadata_of(self, name: str) -> dict[str, str]:
        path = self.folder / name
        try:
            with safe_open(path, "pt") as file:
                return dict(file.metadata() or {})
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"cannot read {str(path)!r}: {error}; remove it, and the same command computes it "
                "anew"
            ) from None

    def _check_same(self, found: Mapping[str, str]) -> None:
        for name, mine in self.metadata.items():
            if found.get(name) != mine:
                was = repr(found[name]) if name in found else "not known"
                raise OutputError(
                    f"the folder {str(self.folder)!r} holds other features: {name} was {was}, and "
                    f"is {mine!r}; name another folder, or remove this one"
                )


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk of a folder cannot hold.

    Raises:
        OutputError: It has fewer bytes free than are needed.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"the features take {size_text(needed)}, and the disk of {str(folder)!r} has "
            f"{size_text(free)} free; free some space, or take --pool mean, --dtype float16 or a "
            "later boundary"
        )
