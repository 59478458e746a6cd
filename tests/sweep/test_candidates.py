"""Which rows a sweep has, and what they are called."""

from __future__ import annotations

import pytest

from freezekit.errors import UnknownStrategyError
from freezekit.plugins.registering import default_registry
from freezekit.sweep.candidates import baseline_of, choose_rows

MODELS = ("timm:test_vit",)


def labels(models=MODELS, specs=(), schedules=(), **options) -> list[str]:
    return [
        each.label for each in choose_rows(models, specs, schedules, default_registry(), **options)
    ]


def test_the_baseline_is_first_and_stock():
    rows = choose_rows(MODELS, ["head-only", "full"], [], default_registry(), lean="on")
    assert [row.label for row in rows] == ["full", "head-only [lean]", "full [lean]"]
    assert [row.is_baseline for row in rows] == [True, False, False]


def test_defaults_are_few_and_of_all_kinds():
    assert labels() == ["full", "head-only", "first-n-stages:n=2", "head-only then full at 20%"]


def test_a_schedule_alone_has_no_default_strategies_beside_it():
    assert labels(schedules=["lp-ft"]) == ["full", "lp-ft"]


def test_spellings_of_one_spec_are_one_row():
    assert labels(specs=["first-n-stages:n=2", "first-n-stages: n=2"]) == [
        "full",
        "first-n-stages:n=2",
    ]


def test_labels_name_what_differs():
    found = labels(specs=["head-only"], image_sizes=(None, 96))
    assert found == ["full, own size", "head-only, own size", "head-only, 96 px"]
    found = labels(("timm:test_vit", "timm:test_resnet"), ["head-only"], lean="both")
    assert found == [
        "timm:test_vit: full",
        "timm:test_vit: head-only",
        "timm:test_vit: head-only [lean]",
        "timm:test_resnet: full",
        "timm:test_resnet: head-only",
        "timm:test_resnet: head-only [lean]",
    ]


def test_each_model_has_its_own_baseline():
    rows = choose_rows(("timm:a", "timm:b"), ["head-only"], [], default_registry())
    assert [baseline_of(row, rows).label for row in rows] == ["timm:a: full"] * 2 + [
        "timm:b: full"
    ] * 2


def test_plugins_are_named():
    rows = choose_rows(
        MODELS, ["head-only"], ["lp-ft", "head-only then full at 1ep"], default_registry()
    )
    assert [row.plugin.name if row.plugin else None for row in rows] == [
        "full",
        "head-only",
        "lp-ft",
        "head-only + full",
    ]


def test_a_misspelt_spec_is_told_before_anything_is_trained():
    with pytest.raises(UnknownStrategyError, match="did you mean 'head-only'"):
        labels(specs=["head-onyl"])
