"""Three sentences at most, each true, those that would change a decision first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from freezekit.report.findings import findings
from freezekit.report.note_records import wrapped
from freezekit.results.records import Memory, Outlook, Result, Row, Time

MakeRow = Callable[..., Row]
MakeTime = Callable[..., Time]
MakeResult = Callable[..., Result]

MIB = 2**20
TRAINABLE = 11_680_000  # with the norms of the made rows frozen


def test_rows_that_free_nothing_share_the_first_sentence(make_result: MakeResult) -> None:
    said = findings(make_result())
    assert said[0] == (
        "by-name:contains=bn and batch-norm free at most 0.2 % of the saved activations: the "
        "layers that train still keep their inputs"
    )
    assert len(said) == 3


def test_each_sentence_has_two_lines_at_most(make_result: MakeResult) -> None:
    for sentence in findings(make_result()):
        assert len(wrapped(sentence, 80)) <= 2


def test_what_lean_would_bring_is_said_with_it(make_result: MakeResult, make_row: MakeRow) -> None:
    rows = [
        make_row(name, trainable=TRAINABLE, saved=54.1, with_lean=Outlook(int(left * MIB), 1))
        for name, left in (("batch-norm", 27), ("norm-only", 29.5))
    ]
    one = findings(make_result(rows=(make_row("full"), rows[0])))
    assert one == (
        "batch-norm frees none of the saved activations; --lean on would leave 27.0 of 54.1 MiB "
        "(predicted)",
    )
    both = findings(make_result(rows=(make_row("full"), *rows)))
    assert both[0].startswith("batch-norm and norm-only free none of the saved activations")
    assert "--lean on would leave 27.0 to 29.5 of 54.1 MiB (predicted)" in both[0]
    assert len(wrapped(both[0], 80)) == 2
    apart = findings(
        make_result(rows=(make_row("full"), rows[0], replace(rows[1], with_lean=None)))
    )
    assert len(apart) == 2, "lean is promised only where it was counted"
    assert apart[1].startswith("norm-only frees none of the saved activations: the layers")
    lean_alone = replace(rows[1], lean=True, with_lean=None)
    (sentence,) = findings(make_result(rows=(make_row("full"), lean_alone)))
    assert sentence.endswith("saved activations"), "stock's reason does not hold"


def test_what_lean_keeps_beside_it_is_said_with_it(
    make_result: MakeResult, make_row: MakeRow
) -> None:
    full, stock = make_row("full"), make_row("batch-norm", trainable=TRAINABLE, saved=54.1)
    lean = replace(make_row("batch-norm", trainable=TRAINABLE, saved=27.0), lean=True)
    said = findings(make_result(rows=(full, stock, lean)))
    assert said[0] == (
        "batch-norm frees none of the saved activations; [lean] keeps 27.0 of 54.1 MiB"
    )
    as_much = replace(stock, lean=True)
    (sentence,) = findings(make_result(rows=(full, stock, as_much)))
    assert sentence.endswith("the layers that train still keep their inputs")


def test_lean_is_told_of_where_it_saves_most(
    make_result: MakeResult, make_row: MakeRow, make_time: MakeTime
) -> None:
    time = replace(make_time(0.2, 1, (1, 1)), ratio_to_stock=1.05, ratio_to_stock_ci=(1.02, 1.08))
    stock = [make_row(name, trainable=5, saved=40) for name in ("a", "b")]
    lean = [
        replace(make_row(name, trainable=5, saved=saved, time=time), lean=True)
        for name, saved in (("a", 30), ("b", 10))
    ]
    said = findings(make_result(rows=(make_row("full"), *stock, *lean)))
    assert (
        "lean saves most with b: 10.0 MiB of activations are kept instead of 40.0 MiB, for 1.05 "
        "[1.02, 1.08] of the step time"
    ) in said
    same = tuple(replace(row, lean=True) for row in stock)
    assert not any(
        "lean" in text for text in findings(make_result(rows=(make_row("full"), *stock, *same)))
    )


@pytest.mark.parametrize(
    ("cut", "end"), [(None, "is shown"), ("to fit 60 s", "is shown; --budget 0 measures longer")]
)
def test_less_work_without_less_time(make_result: MakeResult, cut: str | None, end: str) -> None:
    said = findings(make_result(timing_design={"cut": cut}))
    (sentence,) = (text for text in said if "less work" in text)
    assert "7.3 % less work than `full`, but no difference in time" in sentence
    assert sentence.endswith(end)


def test_mixed_peaks_are_warned_of(make_result: MakeResult, make_row: MakeRow) -> None:
    head = make_row("head-only", trainable=5, saved=10.0)
    predicted = replace(head, memory=replace(head.memory, peak_method="predicted"))
    (sentence,) = findings(make_result(rows=(make_row("full"), predicted)))
    assert sentence == "do not compare peaks with ~, which are predicted, with measured peaks"


@pytest.mark.parametrize(
    ("of_full", "fields", "said"),
    [
        (
            242.0,
            {"saved": 0.05, "gradients": 2.0, "peak": 80.0},
            "head-only frees 99.9 % of the saved activations but 66.9 % of the peak: tensors that "
            "live for a moment take at least 29.8 of its 80.0 MiB",
        ),
        (
            143.0,
            {"saved": 1.0, "gradients": 42.0, "peak": 138.0},
            "head-only frees 98.2 % of the saved activations but 3.5 % of the peak: gradients and "
            "optimizer state take up to 84.0 of its 138.0 MiB",
        ),
        (
            100.0,
            {"saved": 2.0, "gradients": 20.0, "peak": 90.0},
            "head-only frees 96.3 % of the saved activations but 10.0 % of the peak: parameters, "
            "buffers and inputs take 46.1 of its 90.0 MiB",
        ),
    ],
)
def test_the_largest_part_of_a_peak_that_falls_little_is_named(
    make_result: MakeResult,
    make_row: MakeRow,
    of_full: float,
    fields: dict[str, float],
    said: str,
) -> None:
    rows = (make_row("full", peak=of_full), make_row("head-only", trainable=5, **fields))
    assert findings(make_result(rows=rows)) == (said,)


def test_rates_alone_free_nothing(make_result: MakeResult, make_row: MakeRow) -> None:
    rows = [make_row(name) for name in ("full", "layer-decay", "discriminative-lr")]
    assert findings(make_result(rows=tuple(rows))) == (
        "layer-decay and discriminative-lr train every parameter that `full` trains, so no "
        "activations are freed",
    )


def test_no_sentence_without_figures(make_result: MakeResult) -> None:
    rows = make_result().rows
    assert findings(make_result(rows=())) == ()
    assert findings(make_result(rows=rows[1:])) == (), "nothing to compare with"
    partly = tuple(replace(row, memory=Memory(peak_bytes=5), time=None) for row in rows)
    assert findings(make_result(rows=partly)) == ()
