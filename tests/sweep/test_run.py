"""What a sweep asks for, decides and keeps; the trainings are made up."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from freezekit.sweep.answers import Answers
from freezekit.sweep.records import Candidate, Settings, Sweep, SweepRow
from freezekit.sweep.run import LATE, SweepRun
from freezekit.sweep.store import to_json
from tests.sweep.stand_in import InThisProcess, asked, empty, work

if TYPE_CHECKING:
    from pathlib import Path

GRID = (1e-4, 1e-3, 1e-2)
SETTINGS = Settings(8, (0, 1, 2), lr_grid=GRID, rungs=(2, 4))


def rows(*specs: str, lr: Any = "grid") -> tuple[SweepRow, ...]:
    return tuple(
        SweepRow(Candidate("timm:test_vit", spec, lr=lr), spec, is_baseline=spec == "full")
        for spec in ("full", *specs)
    )


def swept(
    folder: Path, candidates: tuple[SweepRow, ...], settings: Settings = SETTINGS, **engine: Any
) -> Sweep:
    folder.mkdir(exist_ok=True)
    how = work(Answers(folder / "answers"), folder / "log", InThisProcess(**engine))
    return SweepRun(empty(candidates, settings), how).run()


def timeless(sweep: Sweep) -> str:
    return to_json(replace(sweep, seconds=None))


CHOSEN = rows("head-only", "first-n-stages:n=2", "bias-only")


def test_pilots_choose_the_rate_and_trials_take_it(tmp_path: Path):
    found = swept(tmp_path, CHOSEN)
    assert [row.lr for row in found.rows] == [1e-3] * 4
    assert [[pilot.recipe.lr for pilot in row.pilots] for row in found.rows] == [list(GRID)] * 4
    assert {trial.recipe.lr for row in found.rows for trial in row.trials} == {1e-3}
    assert found.complete


@pytest.mark.parametrize(("batch_size", "epochs"), [(32, 8), (1, 4)])
def test_pilots_have_half_of_the_epochs_where_these_are_many_steps(
    tmp_path: Path, batch_size: int, epochs: int
):
    found = swept(tmp_path, CHOSEN, replace(SETTINGS, batch_size=batch_size))
    assert {pilot.recipe.epochs for row in found.rows for pilot in row.pilots} == {epochs}


def test_only_what_is_hopeless_is_stopped(tmp_path: Path):
    found = {row.label: row for row in swept(tmp_path, CHOSEN).rows}
    assert not any((tmp_path / "trials").iterdir()), "no checkpoint is left"
    assert found["bias-only"].stopped_at == 2  # dear and bad
    assert found["bias-only"].status == "stopped"
    assert found["bias-only"].error == "hopeless after epoch 2"
    assert {trial.status for trial in found["bias-only"].trials} == {"stopped"}
    assert found["bias-only"].metric_to_baseline is None
    assert found["head-only"].stopped_at is None  # bad, but the cheapest: on the front
    assert [found[name].status for name in ("full", "head-only", "first-n-stages:n=2")] == [
        "ok"
    ] * 3
    trials = [each for each in asked(tmp_path / "log") if each[:2] == ["bias-only", "trial"]]
    assert {until for *_, until in trials} == {2}


@pytest.mark.parametrize(
    ("has_deadline", "first"),
    [
        (False, [("full", 0), ("head-only", 0), ("full", 1), ("head-only", 1)]),
        (True, [("full", 0), ("full", 1), ("full", 2), ("head-only", 0)]),
    ],
)
def test_what_is_paired_is_trained_together_unless_rows_must_be_whole(
    tmp_path: Path, has_deadline: bool, first: list[tuple[str, int]]
):
    how = work(Answers(tmp_path / "answers"), tmp_path / "log", InThisProcess())
    how = dataclasses.replace(how, deadline=time.time() + 600 if has_deadline else None)
    SweepRun(empty(rows("head-only", lr=1e-3), replace(SETTINGS, rungs=())), how).run()
    asked_for = [(label, seed) for label, kind, seed, *_ in asked(tmp_path / "log")]
    assert asked_for[:4] == first


def test_without_rungs_nothing_is_stopped(tmp_path: Path):
    found = swept(tmp_path, CHOSEN, replace(SETTINGS, rungs=()))
    assert {row.status for row in found.rows} == {"ok"}


def test_the_front_the_recommendation_and_the_sentences(tmp_path: Path):
    found = swept(tmp_path, CHOSEN)
    front = {row.label: row.on_front for row in found.rows}
    assert front == {"full": True, "head-only": True, "first-n-stages:n=2": True, "bias-only": None}
    assert found.recommended == "full"  # 200 images do not tell what n=2 loses
    loses = found.sentences[0]
    assert loses.startswith("head-only loses ")
    assert " points (" in loses
    assert loses.endswith(
        " against full and takes 10 % of the time (no interval) and 10 % of the memory"
    )
    assert found.sentences[1].startswith("first-n-stages:n=2 is not told apart from full (-")


def test_the_order_of_answers_changes_nothing(tmp_path: Path):
    one = swept(tmp_path / "one", CHOSEN)
    other = swept(tmp_path / "other", CHOSEN, backwards=True)
    assert timeless(one) == timeless(other)


@pytest.mark.parametrize("answers", [0, 5, 13, 20, 30])
def test_after_an_interruption_the_result_is_the_same_and_nothing_is_trained_again(
    tmp_path: Path, answers: int
):
    whole = swept(tmp_path / "whole", CHOSEN)
    folder = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        swept(folder, CHOSEN, fails_after=answers)
    assert len(asked(folder / "log")) == answers
    assert timeless(swept(folder, CHOSEN)) == timeless(whole)
    done = asked(folder / "log")
    assert len(done) == len(asked(tmp_path / "whole" / "log"))
    assert len({tuple(each) for each in done}) == len(done)


def test_more_seeds_train_only_what_is_new(tmp_path: Path):
    swept(tmp_path, rows("head-only"))
    before = asked(tmp_path / "log")
    found = swept(tmp_path, rows("head-only"), replace(SETTINGS, seeds=(0, 1, 2, 3)))
    new = asked(tmp_path / "log")[len(before) :]
    assert {seed for _, _, seed, _, _ in new} == {3}
    assert [len(row.trials) for row in found.rows] == [4, 4]


def test_more_candidates_train_only_what_is_new(tmp_path: Path):
    swept(tmp_path, rows("head-only"))
    before = asked(tmp_path / "log")
    found = swept(tmp_path, CHOSEN)
    new = asked(tmp_path / "log")[len(before) :]
    assert {label for label, *_ in new} == {"first-n-stages:n=2", "bias-only"}
    assert timeless(found) == timeless(swept(tmp_path / "anew", CHOSEN))


def test_what_was_trained_without_rungs_is_not_trained_again_with_rungs(tmp_path: Path):
    swept(tmp_path, CHOSEN, replace(SETTINGS, rungs=()))
    before = asked(tmp_path / "log")
    found = swept(tmp_path, CHOSEN)
    assert asked(tmp_path / "log") == before
    assert {row.status for row in found.rows} == {"ok"}


def test_a_failure_costs_its_row_alone(tmp_path: Path):
    found = swept(tmp_path, rows("refuses", "diverges", "head-only", lr=1e-3))
    by_label = {row.label: (row.status, row.error) for row in found.rows}
    assert by_label["refuses"] == ("error", "seed 0: the model has no such stage")
    assert by_label["diverges"] == ("diverged", "seed 0: the loss is nan in step 3 (epoch 1)")
    assert by_label["head-only"] == by_label["full"] == ("ok", None)
    assert found.complete


def test_all_pilots_may_fail(tmp_path: Path):
    found = swept(tmp_path, rows("diverges"))
    said = "the loss is nan in step 3 (epoch 1)"
    assert (found.rows[1].status, found.rows[1].error) == ("diverged", said)
    assert found.rows[0].status == "ok"


def test_what_failed_is_asked_again_where_it_may_go_well(tmp_path: Path):
    swept(tmp_path, rows("refuses", "diverges", lr=1e-3))
    before = asked(tmp_path / "log")
    swept(tmp_path, rows("refuses", "diverges", lr=1e-3))
    assert {label for label, *_ in asked(tmp_path / "log")[len(before) :]} == {"refuses"}


def test_the_best_rate_at_an_end_of_the_grid_is_told(tmp_path: Path):
    found = swept(tmp_path, rows(), replace(SETTINGS, lr_grid=(1e-3, 1e-2)))
    assert found.notes[0] == (
        "the lowest rate of the grid, 0.001, was the best for full: a lower one may be better; "
        "--lr names others"
    )


def test_a_cheaper_candidate_that_few_images_do_not_tell_apart_is_not_recommended(tmp_path: Path):
    found = swept(tmp_path, CHOSEN)
    assert (
        "first-n-stages:n=2: cheaper than full, and with so few validation images or seeds not "
        "told apart from full: may be as good, or much worse"
    ) in found.notes


def test_auto_is_left_to_the_training(tmp_path: Path):
    found = swept(tmp_path, rows(lr="auto"))
    assert found.rows[0].trials[0].recipe.lr == "auto"
    assert found.rows[0].trials[0].lr == 1e-3
    assert found.rows[0].lr is None
    assert not found.rows[0].pilots


def test_after_the_deadline_nothing_is_begun(tmp_path: Path):
    how = work(Answers(tmp_path / "answers"), tmp_path / "log", InThisProcess())
    found = SweepRun(empty(CHOSEN, SETTINGS), replace_deadline(how)).run()
    assert not asked(tmp_path / "log")
    assert LATE in found.notes
    assert not found.complete
    assert {row.status for row in found.rows} == {"running"}


def test_the_time_before_the_first_training_counts(tmp_path: Path):
    how = work(Answers(tmp_path / "answers"), tmp_path / "log", InThisProcess())
    found = SweepRun(empty(CHOSEN, SETTINGS), how, began=time.monotonic() - 1000).run()
    assert found.seconds is not None
    assert found.seconds >= 1000


def replace_deadline(how: Any) -> Any:
    import dataclasses

    return dataclasses.replace(how, deadline=1.0)


def test_progress_counts_epochs(tmp_path: Path):
    seen: list[Any] = []
    how = work(Answers(tmp_path / "answers"), tmp_path / "log", InThisProcess())
    SweepRun(empty(rows(lr=1e-3), SETTINGS), how, on_progress=seen.append).run()
    assert [(one.phase, one.done, one.total) for one in seen][:3] == [
        ("training 1 candidate to epoch 2", 0, 6),
        ("training 1 candidate to epoch 2", 1, 6),
        ("training 1 candidate to epoch 2", 2, 6),
    ]
    assert seen[1].running == ("full, seed 0 (1 of 2)",)
