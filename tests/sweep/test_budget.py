"""What a budget of time allows, and what it cuts first."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from freezekit.sweep.budget import (
    USED,
    Extent,
    Speed,
    extent_note,
    fitting,
    going_on,
    has_chosen,
    seconds_of,
)
from freezekit.sweep.records import BudgetChoice, Candidate, Settings, Sweep, SweepRow
from freezekit.training.records import DataFacts, Epoch, Recipe, Trial

SPEEDS = [Speed(2.0, 10.0), Speed(2.0, 4.0), Speed(2.0, 8.0, is_scheduled=True)]
ASKED = Extent(50, 3, 3)


@pytest.mark.parametrize("seconds", [60, 200, 500, 1000, 5000])
def test_what_is_chosen_fits(seconds: int):
    found = fitting(seconds, ASKED, SPEEDS, at_once=1)
    assert seconds_of(found, SPEEDS, 1) <= USED * seconds or not found.fits


def test_more_time_is_never_less_training():
    found = [fitting(seconds, ASKED, SPEEDS, 1) for seconds in range(50, 5000, 50)]
    assert [one.pilots for one in found] == sorted(one.pilots for one in found)
    whole = [one.epochs for one in found if one.pilots]
    assert whole == sorted(whole)
    assert found[-1].epochs > 20


def test_pilots_are_cut_before_seeds_and_two_seeds_stay():
    kinds = dict.fromkeys(
        (one.seeds, one.pilots)
        for one in (fitting(seconds, ASKED, SPEEDS, 1) for seconds in range(2000, 1, -10))
        if one.epochs >= 3
    )
    assert list(kinds) == [(3, 3), (3, 0), (2, 0)]
    assert fitting(1, ASKED, SPEEDS, 1) == Extent(1, 2, 0, fits=False)


def test_twice_at_once_is_about_half_the_time():
    assert seconds_of(ASKED, SPEEDS, 2) == seconds_of(ASKED, SPEEDS, 1) / 2


def test_nothing_is_trained_more_than_was_asked():
    assert fitting(1e6, Extent(7, 3, 3), SPEEDS, 1) == Extent(7, 3, 3)
    assert fitting(1e6, Extent(7, 1, 0), SPEEDS, 1) == Extent(7, 1, 0)


def test_a_note_says_what_was_cut():
    assert extent_note(Extent(9, 3, 3), ASKED, 1800) == "the budget of 30 min allows 9 epochs"
    said = extent_note(Extent(3, 2, 0), ASKED, 300)
    assert said.startswith(
        "the budget of 5 min allows 3 epochs; it was cut to 2 seeds and no pilots"
    )


def test_pilots_of_few_steps_have_all_epochs():
    asked = Extent(6, 3, 3)
    many, few = Speed(2.0, 10.0, pilot_steps=50), Speed(2.0, 10.0, pilot_steps=6)
    assert seconds_of(asked, [few], 1) - seconds_of(asked, [many], 1) == 3 * 3 * 10.0


GRID = (2e-4, 1e-3, 5e-3)


def begun(seconds: float, seeds: int, grid: tuple[float, ...] = GRID, **more: Any) -> Settings:
    """Return the settings of a command, before a budget has chosen."""
    settings = Settings(50, tuple(range(seeds)), lr_grid=grid, rungs=(12, 25))
    choice = BudgetChoice(seeds, grid)
    return replace(settings, budget_seconds=seconds, budget_choice=choice, **more)


def earlier(*, fits: bool = True, is_trained: bool = True) -> Sweep:
    """Return a sweep whose budget chose 5 epochs, 2 seeds and no pilots."""
    recipe = Recipe("timm:test_vit", "full", 5)
    epochs = (Epoch(1, 1.0, 1e-3, {}, 1.0, 1.0),) if is_trained else ()
    row = SweepRow(
        Candidate("timm:test_vit", "full"), "full", trials=(Trial(recipe, epochs=epochs),)
    )
    settings = replace(
        begun(300, 3),
        epochs=5,
        seeds=(0, 1),
        lr_grid=(1e-3,),
        rungs=(1, 2),
        budget_choice=BudgetChoice(3, GRID, fits),
    )
    note = "the budget of 5 min allows 5 epochs; it was cut to 2 seeds"
    data = DataFacts("photos", ("a", "b"), 8, 2, "made", "1f")
    return Sweep("0", data, settings, {}, (row,), notes=(note,))


def test_the_same_command_goes_on_with_what_was_chosen():
    found, notes = going_on(begun(300, 3), earlier())
    assert (found.epochs, found.seeds, found.lr_grid, found.rungs) == (5, (0, 1), (1e-3,), (1, 2))
    assert notes == earlier().notes


def test_options_that_change_hold_and_the_epochs_stay():
    found, (note,) = going_on(begun(3600, 4, ()), earlier())
    assert (found.epochs, found.seeds, found.lr_grid, found.rungs) == (5, (0, 1, 2, 3), (), (1, 2))
    assert note == (
        "the budget of 60 min goes on; that of 5 min allows 5 epochs; it was cut to 2 seeds; now "
        "it has 4 seeds and the learning rates of --lr"
    )
    found, _ = going_on(replace(begun(300, 3), rungs=()), earlier())
    assert found.rungs == ()


def test_a_budget_that_was_too_short_or_trained_nothing_chooses_anew():
    assert has_chosen(earlier())
    assert not has_chosen(earlier(fits=False))
    assert not has_chosen(earlier(is_trained=False))
