"""Sentences are there where they are true, hold the right figures, and are absent elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from freezekit.report.explain import explain
from freezekit.results.records import Control, Memory, Outlook, Result, Row, Time

MakeRow = Callable[..., Row]
MakeTime = Callable[..., Time]
MakeResult = Callable[..., Result]


MIB = 2**20
TRAINABLE = 11_680_000  # with the norms of the made rows frozen


def _about(result: Result, start: str) -> list[str]:
    return [sentence for sentence in explain(result) if sentence.startswith(start)]


def test_freezing_norms_frees_no_activations(make_result: MakeResult) -> None:
    (batch_norm,) = _about(make_result(), "batch-norm ")
    assert (
        "frees 0.2 % of the saved activations (54.0 MiB against 54.1 MiB of `full`)" in batch_norm
    )
    (by_name,) = _about(make_result(), "by-name")
    assert "frees none" in by_name
    reasons = [s for s in explain(make_result()) if "keeps its input" in s]
    assert len(reasons) == 1, "the reason is given once"


def test_a_strategy_that_frees_activations_is_not_told_that_it_does_not(
    make_result: MakeResult,
) -> None:
    assert not re.search(r"(head-only|stages:n=2) freezes", " ".join(explain(make_result())))


def test_learning_rates_alone_change_nothing_in_memory(make_result: MakeResult) -> None:
    (sentence,) = _about(make_result(), "discriminative-lr")
    assert "trains every parameter that `full` trains" in sentence
    assert "54.1 MiB are saved, 54.1 MiB by `full`" in sentence


def test_a_peak_made_of_what_lives_for_a_moment(make_result: MakeResult) -> None:
    (sentence,) = _about(make_result(), "head-only frees")
    assert "frees 99.9 % of the saved activations but 66.9 % of the peak" in sentence
    held = 44.6 + 0.04 + 1.5 + 2 + 2 + 0.05
    assert "0.05 MiB are saved from forward to backward" in sentence
    assert f"at least {80 - held:.1f} MiB of the 80.0 MiB live for a moment" in sentence
    assert "8.00 MiB of it workspace" in sentence


def test_a_peak_made_of_gradients_and_optimizer_state(
    make_result: MakeResult, make_row: MakeRow
) -> None:
    row = make_row("first-n-stages", trainable=5, saved=1.0, gradients=42.0, peak=138.0)
    full = make_row("full", peak=143.0)
    (sentence,) = _about(make_result(rows=(full, row)), "first-n-stages frees")
    assert "frees 98.2 % of the saved activations but 3.5 % of the peak" in sentence
    assert "gradients and optimizer state up to 84.0 MiB" in sentence
    assert f"at least {138 - 44.6 - 0.04 - 1.5 - 84 - 1:.2f} MiB" in sentence


def test_a_peak_that_rises(make_result: MakeResult, make_row: MakeRow) -> None:
    rows = (make_row("full"), make_row("head-only", trainable=5, saved=0.05, peak=250.0))
    (sentence,) = _about(make_result(rows=rows), "head-only")
    assert "frees 99.9 % of the saved activations but nothing of the peak (+3.3 %)" in sentence


def test_a_peak_that_falls_with_what_is_saved_is_no_surprise(
    make_result: MakeResult, make_row: MakeRow
) -> None:
    row = make_row("head-only", trainable=5, saved=23.0, gradients=2.0, peak=93.0)
    assert not _about(make_result(rows=(make_row("full"), row)), "head-only frees")


def test_fewer_flops_without_a_difference_in_time(make_result: MakeResult) -> None:
    (sentence,) = (s for s in explain(make_result()) if "but no difference in time" in s)
    assert sentence.startswith("first-n-stages:n=2 + ")
    assert "does 0.93 of the FLOPs of `full`" in sentence
    assert "0.98 [0.95, 1.02]" in sentence


def test_slower_with_fewer_flops(
    make_result: MakeResult, make_row: MakeRow, make_time: MakeTime
) -> None:
    time = make_time(0.23, 1.08, (1.05, 1.11), "slower")
    rows = (make_row("full"), make_row("by-name", flops=(10, 20), time=time))
    said = explain(make_result(rows=rows))
    assert (
        "by-name is slower than `full`, though it does 0.00 of its FLOPs: the ratio is "
        "1.08 [1.05, 1.11]"
    ) in said


def test_flops_do_not_predict_time_names_the_widest_gap(make_result: MakeResult) -> None:
    (sentence,) = _about(make_result(), "FLOPs")
    assert "first-n-stages:n=2 does 0.50 of the FLOPs of `full` in 0.68 of its time" in sentence


def test_flops_that_happen_to_predict_time_are_no_surprise(
    make_result: MakeResult, make_row: MakeRow, make_time: MakeTime
) -> None:
    half = make_row("half", flops=(5, 5), time=make_time(0.1, 0.51, (0.5, 0.52), "faster"))
    rows = (make_row("full", flops=(10, 10), time=make_time(0.2, 1.0, (1, 1), "baseline")), half)
    assert not _about(make_result(rows=rows), "FLOPs")


def test_flops_are_not_held_against_a_time_without_a_verdict(
    make_result: MakeResult, make_row: MakeRow, make_time: MakeTime
) -> None:
    full = make_row("full", flops=(10, 10), time=make_time(0.2, 1.0, (1, 1), "baseline"))
    time = make_time(0.18, 0.9, (0.82, 0.99), "no difference shown")
    rows = (full, make_row("half", flops=(5, 5), time=time))
    assert not _about(make_result(rows=rows), "FLOPs")
    shown = (full, replace(rows[1], time=replace(time, verdict="faster")))
    assert _about(make_result(rows=shown), "FLOPs")


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (Control(1.0, (0.97, 1.05)), True),
        (Control(1.0, (0.9, 1.2)), False),
        (Control(1.0, None), False),
        (None, False),
    ],
)
def test_a_gap_between_flops_and_time_has_to_exceed_the_noise_floor(
    make_result: MakeResult,
    make_row: MakeRow,
    make_time: MakeTime,
    control: Control | None,
    said: bool,
) -> None:
    half = make_row("half", flops=(5, 5), time=make_time(0.12, 0.6, (0.58, 0.62), "faster"))
    rows = (make_row("full", flops=(10, 10), time=make_time(0.2, 1.0, (1, 1), "baseline")), half)
    assert bool(_about(make_result(rows=rows, control=control), "FLOPs")) is said


def test_a_lean_row_is_told_of_beside_its_stock_row(
    make_result: MakeResult, make_row: MakeRow, make_time: MakeTime
) -> None:
    time = replace(
        make_time(0.22, 1.04, (1.01, 1.07), "slower"),
        ratio_to_stock=1.05,
        ratio_to_stock_ci=(1.02, 1.08),
    )
    norms = make_row("batch-norm", trainable=TRAINABLE, saved=54.0, peak=241.8)
    lean = replace(
        make_row("batch-norm", trainable=TRAINABLE, saved=27.0, peak=215.0, time=time), lean=True
    )
    said = explain(make_result(rows=(make_row("full"), norms, lean)))
    assert [sentence for sentence in said if sentence.startswith("batch-norm [lean]")] == [
        "batch-norm [lean] keeps 27.0 MiB of saved activations where stock keeps 54.0 MiB "
        "(50.0 %), peaks at 215.0 MiB instead of 241.8 MiB (-11 %) and takes 1.05 [1.02, 1.08] of "
        "the step time of stock"
    ]
    untimed = make_result(rows=(make_row("full"), norms, replace(lean, time=None)))
    (sentence,) = _about(untimed, "batch-norm [lean]")
    assert sentence.endswith("(50.0 %) and peaks at 215.0 MiB instead of 241.8 MiB (-11 %)")


def test_lean_that_saves_nothing_says_so(make_result: MakeResult, make_row: MakeRow) -> None:
    rows = (make_row("full"), replace(make_row("full"), lean=True))
    assert explain(make_result(rows=rows)) == (
        "full [lean] keeps 54.1 MiB of saved activations as stock does and peaks at 242.0 MiB like "
        "stock",
    )


def test_peaks_of_two_methods_are_not_compared_in_lean_either(
    make_result: MakeResult, make_row: MakeRow
) -> None:
    lean = replace(make_row("full"), lean=True)
    lean = replace(lean, memory=replace(lean.memory, peak_method="predicted"))
    (sentence,) = explain(make_result(rows=(make_row("full"), lean)))
    assert "peak" not in sentence


def test_a_lean_row_alone_is_told_of_against_full(
    make_result: MakeResult, make_row: MakeRow
) -> None:
    little = replace(make_row("batch-norm", trainable=TRAINABLE, saved=54.0), lean=True)
    much = replace(make_row("norm-only", trainable=5, saved=10.0, gradients=0.1), lean=True)
    rates = replace(make_row("discriminative-lr:decay=0.8"), lean=True)
    result = make_result(rows=(make_row("full"), little, much, rates))
    (sentence,) = _about(result, "batch-norm [lean] freezes")
    assert sentence.endswith("54.1 MiB of `full`)"), "stock's reason does not hold"
    (sentence,) = _about(result, "norm-only [lean] frees 81.5 % of the saved activations but")
    assert not _about(result, "discriminative-lr"), "its rates are not what keeps activations"


def test_what_lean_would_bring_is_told_where_it_was_counted(
    make_result: MakeResult, make_row: MakeRow
) -> None:
    assert "--lean" not in " ".join(explain(make_result()))
    row = make_row("batch-norm", trainable=TRAINABLE, saved=54.0, with_lean=Outlook(MIB * 27, 1))
    (sentence,) = _about(make_result(rows=(make_row("full"), row)), "batch-norm freezes")
    assert sentence.endswith("--lean on would bring them to 27.0 MiB, 49.9 % of `full` (predicted)")


@pytest.mark.parametrize(("left", "said"), [(54.0, False), (51.6, False), (51.0, True)])
def test_lean_is_not_recommended_where_it_would_bring_next_to_nothing(
    make_result: MakeResult, make_row: MakeRow, left: float, said: bool
) -> None:
    outlook = Outlook(int(left * MIB), 1)
    row = make_row("batch-norm", trainable=TRAINABLE, saved=54.0, with_lean=outlook)
    (sentence,) = _about(make_result(rows=(make_row("full"), row)), "batch-norm freezes")
    assert ("--lean" in sentence) is said


def test_the_peak_saved_is_divided_into_what_was_alive_at_the_peaks(
    make_result: MakeResult, make_row: MakeRow
) -> None:
    full = _with_peak_parts(make_row("full"), gradients=10, saved=54, optimizer=40)
    head = _with_peak_parts(
        make_row("head-only", trainable=5, saved=0.05, gradients=2.0, peak=80.0),
        gradients=2,
        saved=0,
        optimizer=2,
    )
    (sentence,) = _about(make_result(rows=(full, head)), "head-only peaks")
    assert sentence == (
        "head-only peaks 162.0 MiB below `full`: 8.00 MiB less of gradients, 38.0 MiB less of "
        "optimizer state, 54.0 MiB less of saved activations and 62.0 MiB less of everything else"
    )
    parts = [float(figure) for figure in re.findall(r"([\d.]+) MiB less", sentence)]
    assert sum(parts) == 242 - 80


def test_what_takes_more_at_the_lower_peak_is_said(
    make_result: MakeResult, make_row: MakeRow
) -> None:
    full = _with_peak_parts(make_row("full", peak=200), gradients=10, saved=54, optimizer=40)
    later = make_row("first-n-stages:n=2", trainable=5, saved=23.1, peak=190)
    later = _with_peak_parts(later, gradients=30, saved=20, optimizer=40)
    assert (
        "first-n-stages:n=2 peaks 10.0 MiB below `full`: 20.0 MiB more of gradients, "
        "34.0 MiB less of saved activations and 4.00 MiB more of everything else"
    ) in explain(make_result(rows=(full, later)))


def test_an_older_file_tells_what_is_less_and_not_that_it_adds_up_to_the_peak(
    make_result: MakeResult,
) -> None:
    (sentence,) = _about(make_result(), "head-only peaks")
    assert sentence == (
        "head-only peaks 162.0 MiB below `full`; in total it takes 42.6 MiB less of "
        "gradients, 42.6 MiB less of optimizer state and 54.1 MiB less of saved activations; these "
        "need not all be alive at the peak"
    )
    assert not _about(make_result(), "discriminative-lr:decay=0.8 peaks")


def test_peaks_of_two_methods_are_not_divided(make_result: MakeResult) -> None:
    full, head = make_result().rows[:2]
    head = replace(head, memory=replace(head.memory, peak_method="predicted"))
    assert not _about(make_result(rows=(full, head)), "head-only peaks")


def _with_peak_parts(row: Row, *, gradients: int, saved: int, optimizer: int) -> Row:
    memory = replace(
        row.memory,
        gradients_at_peak_bytes=gradients * MIB,
        saved_at_peak_bytes=saved * MIB,
        optimizer_bytes=optimizer * MIB,
    )
    return replace(row, memory=memory)


def test_no_sentence_without_figures(make_result: MakeResult) -> None:
    rows = make_result().rows
    bare = tuple(Row(row.strategy, parameters=row.parameters) for row in rows)
    lean = tuple(replace(row, lean=True) for row in bare)
    assert explain(make_result(rows=bare)) == explain(make_result(rows=(*bare, *lean))) == ()
    assert explain(make_result(rows=())) == ()
    assert explain(make_result(rows=rows[1:])) == (), "nothing to compare with"
    partly = tuple(replace(row, memory=Memory(peak_bytes=5), time=None) for row in rows)
    assert explain(make_result(rows=partly)) == ()
