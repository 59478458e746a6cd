"""The files that a bench run writes, as its results come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.bench.resuming import with_run
from freezekit.errors import OutputError
from freezekit.report.formats import RESULT_FORMATS, holds_results
from freezekit.report.output import format_of, write
from freezekit.results.files import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.results.records import Result


class ResultFiles:
    """Writes the files as results come. A failure to write is reported at the end."""

    def __init__(self, outputs: Sequence[str]) -> None:
        self.outputs = outputs
        self._failed: dict[str, OutputError] = {}
        self._written: dict[str, Sequence[Result]] = {}

    @property
    def written(self) -> list[str]:
        """The files that hold the last results."""
        return [path for path in self._written if path not in self._failed]

    @property
    def failed(self) -> list[OutputError]:
        """The errors of the other files."""
        return list(self._failed.values())

    def write_also(self, known: Sequence[Result], result: Result) -> None:
        """Write the files with one more result, but for slow formats."""
        self.write(with_run(known, result), draw=False)

    def write(self, results: Sequence[Result], *, draw: bool) -> None:
        """Write the files; slow formats, such as those with charts, only with `draw`."""
        measured = [result for result in results if any(row.parameters for row in result.rows)]
        for path in self.outputs if measured else ():
            waits = not draw or self._written.get(path) == measured
            if waits and format_of(path, RESULT_FORMATS).is_slow:
                continue
            self._failed.pop(path, None)
            try:
                write(measured, RESULT_FORMATS, path)
                self._written[path] = measured
            except OutputError as error:
                self._failed[path] = self._explained(error, path)

    def _explained(self, error: OutputError, path: str) -> OutputError:
        """Return an error that also says what the file holds, and how to continue."""
        if path not in self._written:
            return error
        said = [str(error).removesuffix(UNCHANGED), f"it holds {_held(self._written[path])}"]
        if any(map(holds_results, self.outputs)):
            said.append("free some space, then the same command with --resume continues")
        return OutputError("; ".join(said))


def _held(results: Sequence[Result]) -> str:
    """Name the models of the results, and say which are incomplete."""
    parts = "", " in part"
    return ", ".join(f"{run.workload.model}{parts[not run.complete]}" for run in results)
