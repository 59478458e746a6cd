"""What a budget of time allows, and what it cuts first."""

from __future__ import annotations

import pytest

from freezekit.sweep.budget import USED, Extent, Speed, extent_note, fitting, seconds_of

SPEEDS = [Speed(2.0, 10.0), Speed(2.0, 4.0), Speed(2.0, 8.0, is_scheduled=True)]
ASKED = Extent(50, 3, 3)


@pytest.mark.parametrize("seconds", [60, 200, 500, 1000, 5000])
def test_what_is_chosen_fits(seconds: int):
    found = fitting(seconds, ASKED, SPEEDS, at_once=1)
    assert seconds_of(found, SPEEDS, 1) <= USED * seconds or found == Extent(1, 2, 0)


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
    assert fitting(1, ASKED, SPEEDS, 1) == Extent(1, 2, 0)


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
