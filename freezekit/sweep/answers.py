"""What trainings have answered, in files: what is there need not be trained again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from freezekit.errors import OutputError
from freezekit.results.files import reason, write_text
from freezekit.training.records import Trial

if TYPE_CHECKING:
    from pathlib import Path


class Answers:
    """The trials of a sweep by their digest and the epoch that they were trained to.

    A sweep asks for one training after the other, and what it asks depends on answers alone. So one
    that was killed asks the same again, finds what is here, and trains the rest.

    Args:
        folder: Where the files are; it is made when the first is written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from freezekit.training.records import Recipe, Trial
        >>> trial = Trial(Recipe("timm:test_vit", "full", 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Answers(Path(folder)).put("ab12", 2, trial)
        ...     Answers(Path(folder)).get("ab12", 2) == trial, Answers(Path(folder)).get("ab12", 4)
        (True, None)
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, digest: str, until: int) -> Trial | None:
        """Return an answer, None where there is none.

        Raises:
            OutputError: The file cannot be read.
        """
        path = self._path(digest, until)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Trial)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise OutputError(
                f"{str(path)!r} was changed, or written by another freezekit: {error}; remove it, "
                "and its training is done again"
            ) from None
        except OSError as error:
            raise OutputError(f"cannot read {str(path)!r}: {reason(error)}") from None

    def put(self, digest: str, until: int, trial: Trial) -> None:
        """Keep an answer.

        Raises:
            OutputError: It cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make {str(self._folder)!r}: {reason(error)}") from None
        write_text(self._path(digest, until), msgspec.json.encode(trial).decode())

    def _path(self, digest: str, until: int) -> Path:
        return self._folder / f"{digest}-{until}.json"
