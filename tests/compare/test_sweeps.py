"""`freezekit compare` of two sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from freezekit.cli import main
from freezekit.compare.sweep_pairing import pair_sweeps
from freezekit.errors import CompareError
from freezekit.sweep.store import to_json
from tests.report.example_sweep import example, with_failures

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit.sweep.records import Sweep


def compare(tmp_path: Path, old: Sweep, new: Sweep, *options: str) -> Result:
    for name, sweep in (("old", old), ("new", new)):
        (tmp_path / f"{name}.json").write_text(to_json(sweep))
    paths = [str(tmp_path / "old.json"), str(tmp_path / "new.json")]
    return CliRunner().invoke(main, ["compare", *paths, *options])


def test_the_same_sweep_has_no_difference(tmp_path: Path) -> None:
    done = compare(tmp_path, example(), example())
    assert done.exit_code == 0
    assert done.output.count("no difference shown") == 5
    assert "recommended by both: discriminative-lr:decay=0.8" in done.output


def test_accuracies_are_paired_by_seed_and_image(tmp_path: Path) -> None:
    done = compare(tmp_path, example(), example(shift=-0.1))
    assert "-11.1 [-15.7, -6.2]" in done.output
    assert done.output.count("worse") == 4
    markdown = compare(tmp_path, example(), example(shift=-0.1), "--markdown").output
    assert "| `head-only` | 83.6 | 72.5 | -11.1 [-15.7, -6.2] | 1.00 | 1.00 | worse |" in markdown


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("accurcy < baseline", "unknown figure 'accurcy', did you mean 'accuracy'"),
        (
            "accuracy < old - 0.01",
            "unknown figure 'old'; expected one of model, strategy, status, lr",
        ),
    ],
)
def test_a_gate_that_cannot_be_read_is_told_in_the_language_of_sweeps(
    tmp_path: Path, gate: str, said: str
) -> None:
    done = compare(tmp_path, example(), example(), "--fail-if", gate)
    assert done.exit_code == 2
    assert said in done.output


def test_other_images_and_other_seeds_are_said_and_not_paired(tmp_path: Path) -> None:
    new = example(shift=-0.1)
    other = replace(new, data=replace(new.data, digest="another"))
    done = compare(tmp_path, example(), other, "--markdown")
    assert "the images differ (0123456789abcdef -\\> another): intervals are of two" in done.output
    pair = pair_sweeps(example(), other)
    wide, tight = (
        pair.difference(*pair.rows[1]),
        pair_sweeps(example(), new).difference(*pair.rows[1]),
    )
    assert wide is not None
    assert tight is not None
    assert wide.low is not None
    assert tight.low is not None
    assert wide.low < tight.low
    seeds = replace(new, settings=replace(new.settings, seeds=(7, 8, 9)))
    assert "the seeds differ" in compare(tmp_path, example(), seeds, "--markdown").output


def test_settings_rows_and_ends_that_differ_are_said(tmp_path: Path) -> None:
    new = with_failures()
    new = replace(new, settings=replace(new.settings, batch_size=64))
    done = compare(tmp_path, example(), new, "--markdown")
    assert "the new sweep is not complete" in done.output
    assert "batch\\_size (32 -\\> 64)" in done.output
    assert "only in the new sweep: fraction:p=0.5" in done.output
    assert "| stopped in the new |" in done.output


def changed(sweep: Sweep, **facts: object) -> Sweep:
    """Return a sweep whose candidates have other facts."""
    rows = (replace(row, candidate=replace(row.candidate, **facts)) for row in sweep.rows)
    return replace(sweep, rows=tuple(rows))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"model": "timm:other"}, "the model differs: timm:efficientnet\\_lite0 -\\> timm:other"),
        ({"image_size": 64}, "the image size differs: the model's own -\\> 64"),
    ],
)
def test_candidates_that_differ_are_said(tmp_path: Path, facts: dict, said: str) -> None:
    done = compare(tmp_path, example(), changed(example(), **facts), "--markdown")
    assert said in done.output


def test_learning_rates_that_differ_are_said(tmp_path: Path) -> None:
    first, *others = example().rows
    new = replace(example(), rows=(replace(first, lr=0.5), *others))
    done = compare(tmp_path, example(), new, "--markdown")
    assert f"the learning rate of full differs: {first.lr} -\\> 0.5" in done.output


def test_a_model_more_changes_labels_and_not_pairs(tmp_path: Path) -> None:
    old = example()
    named = tuple(replace(row, label=f"timm:resnet18: {row.label}") for row in old.rows)
    another = tuple(
        replace(row, label=f"timm:other: {row.label}")
        for row in changed(old, model="timm:other").rows
    )
    pair = pair_sweeps(old, replace(old, rows=(*named, *another)))
    assert [before.label for before, _ in pair.rows] == [row.label for row in old.rows]
    assert pair.only_new == tuple(row.label for row in another)
    assert pair.only_old == ()


def test_gates_compare_with_the_old_sweep(tmp_path: Path) -> None:
    gate = ("--fail-if", "accuracy < baseline - 0.03")
    assert compare(tmp_path, example(), example(shift=-0.1), *gate).exit_code == 1
    assert compare(tmp_path, example(), example(shift=-0.1), "--fail-if", "lr > 1").exit_code == 0
    done = compare(tmp_path, example(), example(), "--fail-if", "step_seconds > 1")
    assert (done.exit_code, "unknown figure 'step_seconds'" in done.output) == (2, True)
    done = compare(tmp_path, example(), example(), "--fail-if", "time.ratio > 1")
    assert (done.exit_code, "unknown figure 'time.ratio'" in done.output) == (2, True)


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="have no candidate in common"):
        pair_sweeps(example(), replace(example(), rows=()))
    other = replace(example(), settings=replace(example().settings, metric="loss"))
    with pytest.raises(CompareError, match="compare other figures: 'accuracy' and 'loss'"):
        pair_sweeps(example(), other)
    done = compare(tmp_path, example(), example(), "--absolute")
    assert (done.exit_code, "--absolute is for results of" in done.output) == (2, True)
    (tmp_path / "new.json").write_text("{}")
    paths = [str(tmp_path / "old.json"), str(tmp_path / "new.json")]
    done = CliRunner().invoke(main, ["compare", *paths])
    assert (done.exit_code, "name two of one command" in done.output) == (2, True)
