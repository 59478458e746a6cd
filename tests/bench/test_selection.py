"""Which rows a run has."""

from __future__ import annotations

import pytest

from freezekit.bench.selection import LEAN_CHOICES, Lean, choose
from freezekit.errors import SpecError
from freezekit.plugins.registering import default_registry
from freezekit.results.variant import BASELINE, Variant


@pytest.mark.parametrize(
    ("lean", "asked", "labels"),
    [
        ("off", (), ["full"]),
        ("off", ("batch-norm", "full"), ["full", "batch-norm"]),
        ("on", ("batch-norm",), ["full", "batch-norm [lean]"]),
        ("on", ("full", "batch-norm"), ["full", "full [lean]", "batch-norm [lean]"]),
        (
            "both",
            ("batch-norm",),
            ["full", "full [lean]", "batch-norm", "batch-norm [lean]"],
        ),
        ("both", ("full",), ["full", "full [lean]"]),
    ],
)
def test_the_baseline_is_first_and_stock(
    lean: Lean, asked: tuple[str, ...], labels: list[str]
) -> None:
    found = choose(asked, default_registry(), lean)
    assert [variant.label for variant in found] == labels
    assert found[0] == BASELINE


@pytest.mark.parametrize(
    ("lean", "cache", "labels"),
    [
        ("off", "on", ["full", "head-only [cache]"]),
        ("off", "both", ["full", "head-only", "head-only [cache]"]),
        ("on", "both", ["full", "full [lean]", "head-only [lean]", "head-only [lean, cache]"]),
    ],
)
def test_full_has_no_prefix_that_a_cache_could_hold(
    lean: Lean, cache: Lean, labels: list[str]
) -> None:
    found = choose(["full", "head-only"], default_registry(), lean, cache)
    assert [variant.label for variant in found] == labels
    assert found[-1].uncached.label == labels[-1].replace(" [cache]", "").replace(", cache", "")


@pytest.mark.parametrize(
    ("lean", "compiled", "labels"),
    [
        ("off", "on", ["full", "head-only [compiled]"]),
        ("off", "both", ["full", "full [compiled]", "head-only", "head-only [compiled]"]),
        ("on", "on", ["full", "head-only [lean, compiled]"]),
        ("on", "both", ["full", "head-only [lean]", "head-only [lean, compiled]"]),
        ("both", "on", ["full", "head-only [compiled]", "head-only [lean, compiled]"]),
    ],
)
def test_the_baseline_is_eager(lean: Lean, compiled: Lean, labels: list[str]) -> None:
    found = choose(["head-only"], default_registry(), lean, compiled=compiled)
    assert [variant.label for variant in found] == labels


def test_a_strategy_is_eager_and_compiled_in_stock_then_in_lean() -> None:
    found = choose(["head-only"], default_registry(), "both", compiled="both")
    assert [variant.label for variant in found[4:]] == [
        "head-only",
        "head-only [compiled]",
        "head-only [lean]",
        "head-only [lean, compiled]",
    ]
    assert found[7].stock == found[5]
    assert found[7].eager == found[6]
    cached = choose(["head-only"], default_registry(), cache="both", compiled="on")
    assert cached[-1].label == "head-only [compiled, cache]"
    assert cached[-1].uncached == cached[-2]


@pytest.mark.parametrize("lean", LEAN_CHOICES)
def test_a_spec_is_measured_once_however_it_is_spelt(lean: Lean) -> None:
    asked = ("by-name:contains=bn", "by-name: contains='bn'", "by-name:contains=bn,invert=false")
    found = choose(asked, default_registry(), lean)
    assert len({variant.spec for variant in found}) == 2
    assert len(set(found)) == len(found)


def test_no_spec_reads_like_the_label_of_another_row() -> None:
    asked = ("by-name:contains=bn", "by-name:contains='bn [lean]'")
    labels = [variant.label for variant in choose(asked, default_registry(), "both")]
    assert len(set(labels)) == len(labels) == 6


def test_a_variant_knows_its_stock_one() -> None:
    assert Variant("full", lean=True).stock == BASELINE == BASELINE.stock


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(SpecError, match="did you mean 'batch-norm'"):
        choose(["batchnorm"], default_registry(), "both")
