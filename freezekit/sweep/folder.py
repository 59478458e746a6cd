"""The folder of a sweep: its answers, its checkpoints, and the sweep as far as it has come."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit.errors import OutputError
from freezekit.results.files import reason, remove_drafts, write_text
from freezekit.results.locking import locked
from freezekit.sweep.answers import Answers
from freezekit.sweep.store import load_sweep, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from freezekit.sweep.records import Sweep

DEFAULT = "sweep.trials"


class SweepFolder:
    """What is kept of a sweep beside its output, so that it can go on.

    Args:
        path: The folder.
        storage: A folder or URL for checkpoints; None for a part of this folder.

    Attributes:
        answers: What trainings have answered.
        storage: Where their checkpoints are.
        logs: Where an engine may write.
    """

    def __init__(self, path: Path, storage: str | None = None) -> None:
        self._path = path
        self.answers: Answers = Answers(path / "answers")
        self.storage: str = storage or str(path.absolute() / "checkpoints")
        self.logs: str = str(path.absolute() / "logs")

    def earlier(self) -> Sweep | None:
        """Return the sweep that was kept; None where there is none.

        Raises:
            OutputError: The file cannot be read.
        """
        path = self._path / "sweep.json"
        return load_sweep(path) if path.exists() else None

    def keep(self, sweep: Sweep) -> None:
        """Keep a sweep as far as it has come.

        Raises:
            OutputError: The file cannot be written.
        """
        write_text(self._path / "sweep.json", to_json(sweep))


def folder_of(trials: str | None, outputs: Sequence[str]) -> tuple[Path, str | None]:
    """Return the folder of a sweep, and the URL of its checkpoints where that is apart.

    Args:
        trials: What `--trials` names: a folder, or a URL of object storage; None without.
        outputs: Files that are written.

    Example:
        >>> folder_of(None, ["runs/r.json"]), folder_of(None, ["lr0.1.json"])
        ((PosixPath('runs/r.trials'), None), (PosixPath('lr0.1.trials'), None))
        >>> folder_of("s3://bucket/r", []), folder_of("here", ["r.json"])
        ((PosixPath('sweep.trials'), 's3://bucket/r'), (PosixPath('here'), None))
    """
    is_url = trials is not None and "://" in trials
    if trials is not None and not is_url:
        return Path(trials), None
    named = [Path(path) for path in outputs]
    beside = named[0].with_name(f"{named[0].stem}.trials") if named else None
    return beside or Path(DEFAULT), trials


@contextmanager
def opened(path: Path, storage: str | None, *, resume: bool) -> Iterator[SweepFolder]:
    """Hold the folder of a sweep against other sweeps; it is made where there is none.

    Args:
        path: The folder.
        storage: As `folder_of` returns it.
        resume: Whether what is in it is gone on with.

    Raises:
        OutputError: It cannot be made, another sweep uses it, or it holds something without
            `resume`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked([str(path)]):
            path.mkdir(exist_ok=True)
            for written in (path, path / "answers"):
                remove_drafts(written)
            if not resume and any(path.iterdir()):
                raise OutputError(
                    f"{str(path)!r} holds what an earlier sweep has trained: give --resume to go "
                    "on with it, --trials for another folder, or remove it"
                )
            try:
                yield SweepFolder(path, storage)
            finally:
                if not any(path.iterdir()):  # nothing was trained
                    path.rmdir()
    except OSError as error:
        if error.filename is None or Path(error.filename) not in (path, path.parent):
            raise
        raise OutputError(f"cannot use the folder {str(path)!r}: {reason(error)}") from None
