"""Results to a file; the extension says as what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.bench.store import check_report_packages, extension_of, to_json, write_text
from freezekit.errors import OutputError
from freezekit.report.delimited import render_csv
from freezekit.report.markdown import render_markdown
from freezekit.report.trackers import render_bencher, render_github_action

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from freezekit.bench.results import Result


def _html(results: Sequence[Result]) -> str:
    try:
        from freezekit.report.html.page import render_html  # what it needs is an extra
    except ImportError as error:
        raise OutputError(
            f"cannot make an HTML report: {error}; pip install 'freezekit[report]'"
        ) from error
    return render_html(results)


RENDERERS: dict[str, Callable[[Sequence[Result]], str]] = {
    ".json": to_json,
    ".csv": render_csv,
    ".md": render_markdown,
    ".html": _html,
    ".github.json": render_github_action,
    ".bencher.json": render_bencher,
}


def write(results: Sequence[Result], path: str | Path) -> None:
    """Write results as the extension says: a whole file, or what was there before.

    Args:
        results: One for each model. JSON holds one as an object and several as an array of objects;
            the others put them one after the other.
        path: Ends in .json, .csv, .md, .html, .github.json (for github-action-benchmark) or
            .bencher.json (Bencher Metric Format).

    Raises:
        OutputError: The extension is another one, what HTML needs is not installed, or the file
            cannot be written.

    Example:
        >>> write([], "results.xlsx")
        Traceback (most recent call last):
        ...
        freezekit.errors.OutputError: cannot write 'results.xlsx': the extension '.xlsx' ...
    """
    extension = extension_of(path)
    if extension == ".html":
        check_report_packages(str(path))
    render = RENDERERS[extension]
    write_text(path, render(results))
