"""Results to a file; the extension says as what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report.csv_table import render_csv
from freezekit.report.markdown import render_markdown
from freezekit.report.trackers import render_bencher, render_github_action
from freezekit.results.store import check_report_packages, extension_of, to_json, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from freezekit.results.records import Result


def _html(results: Sequence[Result]) -> str:
    from freezekit.report.html.page import render_html  # what it needs is an extra

    return render_html(results)


RENDERERS: dict[str, Callable[[Sequence[Result]], str]] = {
    ".json": to_json,
    ".csv": render_csv,
    ".md": render_markdown,
    ".html": _html,
    ".github.json": render_github_action,
    ".bencher.json": render_bencher,
}


def write(results: Sequence[Result], *paths: str | Path) -> None:
    """Write results as the extensions say: whole files, or what was there before.

    All are made before the first is written: where one cannot be made, none is written.

    Args:
        results: One for each model. JSON holds one as an object and several as an array of objects;
            the others put them one after the other.
        paths: Each ends in .json, .csv, .md, .html, .github.json (for github-action-benchmark) or
            .bencher.json (Bencher Metric Format).

    Raises:
        OutputError: An extension is another one, what HTML needs is not installed, or a file
            cannot be written.

    Example:
        >>> write([], "results.xlsx")
        Traceback (most recent call last):
        ...
        freezekit.errors.OutputError: cannot write 'results.xlsx': the extension '.xlsx' ...
    """
    texts = [_render(results, path) for path in paths]
    for path, text in zip(paths, texts, strict=True):
        write_text(path, text)


def _render(results: Sequence[Result], path: str | Path) -> str:
    extension = extension_of(path)
    if extension == ".html":
        check_report_packages(str(path))
    return RENDERERS[extension](results)
