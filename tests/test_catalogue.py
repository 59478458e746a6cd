"""The catalogue of strategies and schedules says what they say, and lists them all."""

from __future__ import annotations

import pytest

from benchmarks.strategies.catalogue import MODELS, PAGE, SCHEDULES, SPECS, page
from freezekit.plugins.registering import load_registry


def test_the_page_is_made_of_the_strategies() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run: python -m benchmarks.strategies.catalogue"
    )


def test_every_built_in_strategy_is_in_it() -> None:
    own = {
        name
        for name, offered in load_registry().strategies.items()
        if offered.plugin.distribution == "freezekit"
    }
    assert own - {"full"} == {spec.partition(":")[0] for spec in SPECS}


def test_every_built_in_schedule_is_in_it() -> None:
    own = {
        name
        for name, offered in load_registry().schedules.items()
        if offered.plugin.distribution == "freezekit"
    }
    assert own == set(SCHEDULES)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_in_every_table(model: str) -> None:
    assert page().count(f"| {model.partition(':')[2]} |") == len(SPECS)
