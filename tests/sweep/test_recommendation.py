"""Which candidate is recommended, from few images and from many."""

from __future__ import annotations

import base64

import numpy as np
from msgspec.structs import replace

from freezekit.report.sweep_notes import recommendation
from freezekit.sweep.records import Candidate, Settings, Sweep, SweepRow
from freezekit.sweep.summary import doubt, with_figures
from freezekit.training.records import DataFacts, Epoch, Recipe, Trial


def row(strategy: str, right: list[bool], gflop: int) -> SweepRow:
    bits = base64.b64encode(np.packbits(right).tobytes()).decode()
    val = {"accuracy": float(np.mean(right)), "steps": float(gflop)}
    trials = tuple(
        Trial(
            Recipe("m", strategy, 1, seed=seed),
            "ok",
            epochs=(Epoch(1, 1.0, 1e-3, val, 1.0 + seed, 0.1, gflop * 10**9),),
            peak_bytes=gflop,
            correct=bits,
        )
        for seed in range(2)
    )
    return SweepRow(
        Candidate("m", strategy), strategy, strategy == "full", status="ok", trials=trials
    )


def swept(*rows: SweepRow, images: int, metric: str = "accuracy") -> Sweep:
    data = DataFacts("photos", ("a", "b"), 9, images, "given", "0", tuple([0] * images))
    return with_figures(Sweep("0.1.0", data, Settings(1, (0, 1), metric), {}, rows))


def test_a_candidate_at_chance_is_not_recommended_for_want_of_images():
    found = swept(row("full", [True] * 3, 9), row("head-only", [True, False, False], 1), images=3)
    assert found.sentences[0].startswith("head-only is not told apart from full (-100.0 to ")
    assert found.recommended == "full"
    assert doubt(found) == (
        "head-only: cheaper than full, and with so few validation images or seeds not told apart "
        "from full: may be as good, or much worse"
    )


def test_a_candidate_that_many_images_show_to_be_near_is_recommended():
    right = [n % 5 > 0 for n in range(2000)]
    found = swept(row("full", right, 9), row("head-only", [False, *right[1:]], 1), images=2000)
    assert found.recommended == "head-only"
    assert recommendation(found) == (
        "recommended: head-only, the cheapest that loses at most 2 points, if any, against the best"
    )
    assert doubt(found) is None


def test_a_lean_row_is_as_good_as_its_stock_one():
    full = row("full", [True, False, True], 9)
    lean = row("full", [True, False, True], 8)
    lean = replace(lean, candidate=replace(lean.candidate, lean=True), label="full lean")
    assert swept(full, replace(lean, is_baseline=False), images=3).recommended == "full lean"


def test_a_metric_whose_seeds_agree_shows_nothing():
    found = swept(row("full", [True], 9), row("head-only", [True], 1), images=1, metric="steps")
    assert found.rows[1].metric_to_baseline.low is None
    assert found.sentences[0].startswith("head-only is 8 below full with each seed alike, which")
    assert found.recommended == "full"
