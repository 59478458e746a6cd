"""What is said of what fits: true of each row, with and without real steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from freezekit.fit.records import Fit, FitRow
from freezekit.report.fit_notes import fit_notes
from freezekit.report.fit_table import FitReport, fit_lines, fit_markdown
from freezekit.results.records import Memory, Result, Row, StepSeconds, Time, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 2**20
BY_PREDICTION = "by prediction the batch shown fits and the next, larger by one image, does not"
AFTER_ALL = "which fits, though by prediction and margin it does not"


def mib(count: float | None) -> int | None:
    return None if count is None else int(count * MIB)


def row(
    batch: int | None,
    peak: float | None,
    next_peak: float | None = None,
    real: float | None = None,
    next_real: float | None = None,
) -> FitRow:
    """Return a row of these MiB."""
    memory = Memory(mib(peak), "predicted")
    measured = mib(real), mib(next_real)
    return FitRow("full", False, "ok", None, batch, memory, mib(next_peak), 4, *measured)


def said(*rows: FitRow, asked: int | None = None, timing: Sequence[Result] = ()) -> str:
    """Return table and all notes of rows that are to fit into 100 MiB, 2 % left free.

    Each note stands between dashes.
    """
    work = Workload("timm:test_resnet", input_shape=(2, 3, 32, 32), image_size=32)
    fit = Fit("0.1.0", work, {}, 100 * MIB, 0.02, asked, rows, complete=True)
    report = FitReport(fit, tuple(timing))
    cells = " ".join(map(str, fit_lines(report, 80, "utf-8"))).split(" - ")[0]
    notes = [note.text for note in fit_notes(fit, timing).all]
    return " ".join(" - ".join([cells, *notes, ""]).split())


def test_a_prediction_says_what_it_is() -> None:
    text = said(row(8, 97, 105))
    assert f"{BY_PREDICTION} -" in text
    assert "2 % of the peak is left free for the rest; --verify runs real steps -" in text
    assert "97.0%" in text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (row(8, 97, 105, 96, 104), "batch 8 took 96.0 MiB; batch 9 104.0 MiB, too much"),
        (row(8, 97, 99, 96, 98), f"batch 8 took 96.0 MiB; batch 9 98.0 MiB, {AFTER_ALL}"),
        (row(8, 97, 105, 96), "batch 8 took 96.0 MiB -"),
        (row(8, 97, 105, 101), "batch 8 took 101.0 MiB, more than there is; try --margin 4.2"),
    ],
)
def test_real_steps_and_the_prediction_do_not_gainsay_each_other(found: FitRow, words: str) -> None:
    text = said(found)
    assert f"full: a real step of {words}" in text
    assert f"{BY_PREDICTION} -" in text
    assert "--verify" not in text, "it was given"


def test_where_no_larger_batch_was_predicted_none_is_said_not_to_fit() -> None:
    text = said(row(65536, 50))
    assert "full: 65536 images fit; no larger batch was predicted" in text
    assert BY_PREDICTION not in text
    assert "batch 65537 51.0 MiB, which fits too" in said(row(65536, 50, None, 50, 51))


@pytest.mark.parametrize(
    ("peak", "words"), [(98.5, "98.5%"), (150, "150.0%"), (1234, "12.3x"), (5e6, "50000x")]
)
def test_where_no_batch_fits_none_is_said_to(peak: float, words: str) -> None:
    text = said(row(0, peak, peak + 1))
    assert f"{words} - full: not even the smallest batch fits" in text
    assert "is left free for the rest -" in text
    assert "batch 0: no batch fits, and the peak is that of the smallest -" in text
    text = said(row(0, peak), row(8, 97, 105))
    assert f"{BY_PREDICTION} - batch 0: no batch fits, and the peak is" in text


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (row(8, 97), "fits"),
        (row(8, 105), "too much"),
        (row(8, 97, None, 96, 104), "batch 8 took 96.0 MiB; batch 9 104.0 MiB, too much"),
        (row(8, 97, None, 96, 98), "batch 8 took 96.0 MiB; batch 9 98.0 MiB, which fits too"),
        (row(8, 97, None, 101), "batch 8 took 101.0 MiB, more than there is; try --margin 4.2"),
        (row(8, 99, None, 98, 99), f"batch 8 took 98.0 MiB, {AFTER_ALL} -"),
        (row(8, 105, None, 104, 110), "batch 8 took 104.0 MiB, too much, as predicted -"),
    ],
)
def test_one_batch_that_was_asked_for(found: FitRow, words: str) -> None:
    text = said(found, asked=8)
    assert words in text
    assert BY_PREDICTION not in text
    assert ("--verify" in text) == (found.measured_peak_bytes is None)


@pytest.mark.parametrize(
    ("found", "asked", "cell"),
    [
        (row(8, 97, None, 96), 8, "fits"),
        (row(8, 97, None, 101), 8, "too much"),
        (row(8, 99, None, 98), 8, "fits"),
        (row(8, 105, None, 104), 8, "too much"),
        (row(8, 97, 105, 96, 104), None, "8"),
        (row(8, 97, 105, 101), None, "not 8"),
        (row(8, 97, 105), None, "8"),
    ],
)
def test_a_real_step_outdoes_the_prediction(found: FitRow, asked: int | None, cell: str) -> None:
    assert f"full {cell} {(found.memory.peak_bytes or 0) // MIB}" in said(found, asked=asked)


def test_a_row_without_an_answer_is_said_nothing_of() -> None:
    text = said(row(None, None))
    assert (
        "full - peaks are predicted; 2 % of the peak is left free for the rest - peak: of" in text
    )
    assert text.endswith("for a moment is counted -"), "and what a peak is, nothing else"


def timed(batch: int, **seconds: float | None) -> Result:
    """Return a bench run at that batch, with a row for each step time."""
    rows = tuple(
        Row(name, time=Time(StepSeconds(it, it, it), None, None, None) if it else None)
        for name, it in seconds.items()
    )
    return Result("0.1.0", Workload("timm:test_resnet", batch), {}, rows)


def test_speeds_are_of_the_last_run_that_has_them() -> None:
    rows = [replace(row(8, 97), strategy=name) for name in ("full", "surgical", "norm")]
    runs = [timed(8, full=0.5, surgical=0.5), timed(8, full=0.25, norm=1), timed(8, full=None)]
    text = said(*rows, timing=runs)
    for words in ("full 8 97.0 97.0% 32.0", "surgical 8 97.0 97.0% 16.0", "norm 8 97.0 97.0% 8.00"):
        assert words in text
    assert "- images/s: as measured at batch 8; another batch may differ -" in text


def test_speeds_at_several_batches_are_told_apart() -> None:
    rows = [replace(row(8, 97), strategy=name) for name in ("full", "surgical", "norm")]
    text = said(*rows, timing=[timed(8, full=1), timed(16, surgical=1), timed(32, other=1)])
    assert "images/s of full: as measured at batch 8; another batch may differ" in text
    assert "images/s of surgical: as measured at batch 16;" in text
    assert "batch 32" not in text


def test_ten_lines_are_shown_and_markdown_has_the_rest() -> None:
    rows = tuple(
        replace(row(8, 97, 105, 96, 104), strategy=f"first-n-stages:n={i}") for i in range(12)
    )
    work = Workload("timm:test_resnet", input_shape=(2, 3, 32, 32), image_size=32)
    failed = replace(row(None, None), strategy="surgical", status="error", error="no memory " * 30)
    fit = Fit("0.1.0", work, {}, 100 * MIB, 0.02, None, (*rows, failed), complete=True)
    lines = (
        "\n".join(map(str, fit_lines(FitReport(fit), 80, "utf-8"))).split("\n\n")[-1].splitlines()
    )
    assert len(lines) <= 10
    assert lines[0].startswith("- surgical: no memory")
    assert lines[-1] == "11 more notes and definitions: -o FILE.md"
    markdown = fit_markdown(FitReport(fit))
    for note in fit_notes(fit, ()).all:
        assert note.text in markdown
