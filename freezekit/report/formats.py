"""The list of formats: what results, fits and sweeps can be written as.

To add a format: write a function that renders it, and add a record here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.report.csv_table import render_csv
from freezekit.report.fit_table import QUESTIONS, FitReport, fit_json, fit_markdown
from freezekit.report.markdown import render_markdown
from freezekit.report.output import Format, format_of
from freezekit.report.sweep_csv import sweep_csv
from freezekit.report.sweep_table import sweep_markdown
from freezekit.report.trackers import render_bencher, render_github_action
from freezekit.results.figures import FIGURES
from freezekit.results.store import to_json
from freezekit.sweep import store as sweep_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.results.records import Result
    from freezekit.sweep.records import Sweep


def _html(results: Sequence[Result]) -> str:
    from freezekit.report.html.page import render_html  # what it needs is an extra

    return render_html(results)


def _sweep_html(sweep: Sweep) -> str:
    from freezekit.report.html.sweep_page import render_sweep_html  # likewise

    return render_sweep_html(sweep)


_STRING = r'"(?:[^"\\]|\\.)*"'
_FIT_TITLE = rf"\*\*[^\n]*: ({'|'.join(QUESTIONS)}) into "
_TITLES = "|".join(f.tracked.title for f in FIGURES if f.tracked and f.tracked.title)
_SLUGS = "|".join(f.tracked.slug for f in FIGURES if f.tracked and f.tracked.slug)

RESULT_FORMATS: tuple[Format[Sequence[Result]], ...] = (
    Format(".json", to_json, r'(\[\s*)?\{\s*"schema_version"\s*:\s*\d+\s*,\s*"freezekit"'),
    Format(".csv", render_csv, "freezekit,schema_version,"),
    Format(".md", render_markdown, rf"(?!{_FIT_TITLE})\*\*[^\n]+\*\*\n\n\| strategy \|"),
    Format(
        ".html",
        _html,
        r'<!doctype html>.{0,1000}<meta name="generator" content="freezekit">',
        requires=("altair", "jinja2", "vl_convert"),
        is_slow=True,
    ),
    Format(
        ".github.json",
        render_github_action,
        rf'\[\s*(\]|\{{\s*"name"\s*:\s*"(?:[^"\\]|\\.)*: ({_TITLES})")',
    ),
    Format(
        ".bencher.json",
        render_bencher,
        rf'\{{\s*(\}}|{_STRING}\s*:\s*\{{\s*(\}}|"({_SLUGS})"))',
    ),
)
"""What `bench -o` and `report -o` write."""


def holds_results(path: str) -> bool:
    """Tell whether what is written there can be read again, so that a run can go on with it.

    Example:
        >>> holds_results("runs/resnet.json"), holds_results("resnet.github.json")
        (True, False)
    """
    return format_of(path, RESULT_FORMATS).extension == ".json"


FIT_FORMATS: tuple[Format[FitReport], ...] = (
    Format(
        ".json",
        fit_json,
        # Older files have the kind at their end.
        r'\{\s*"kind"\s*:\s*"freezekit fit"|\{\s*"freezekit"\s*:\s*"[^"]*"\s*,\s*"workload"',
    ),
    Format(".md", fit_markdown, _FIT_TITLE),
)
"""What `fit -o` writes."""

SWEEP_FORMATS: tuple[Format[Sweep], ...] = (
    Format(".json", sweep_store.to_json, r'\{\s*"kind"\s*:\s*"freezekit sweep"'),
    Format(".csv", sweep_csv, "freezekit_sweep,"),
    Format(".md", sweep_markdown, r"\*\*[^\n]+\*\*\n\n\| candidate \|"),
    Format(
        ".html",
        _sweep_html,
        r'<!doctype html>.{0,1000}<meta name="generator" content="freezekit sweep">',
        requires=("altair", "jinja2", "vl_convert"),
        is_slow=True,
    ),
)
"""What `sweep -o` and, of a sweep, `report -o` write."""
