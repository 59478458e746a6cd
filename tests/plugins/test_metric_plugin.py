"""Metrics of plugins: found by name, refused where they cannot be."""

from __future__ import annotations

import pytest

from freezekit import load_registry
from freezekit.training.metrics import find_metrics

ONE = """
from freezekit import Metric, hookimpl

@hookimpl
def freezekit_metrics():
    return [Metric({name!r}, {function}, higher_is_better=False)]
"""
ERRORS = "lambda logits, labels: (logits.argmax(1) != labels).sum()"


def test_a_metric_of_a_plugin_is_part_of_each_training(site) -> None:
    site.add("own-metrics", {"errors": ONE.format(name="errors", function=ERRORS)})
    registry = load_registry()
    metric = registry.metrics["errors"]
    assert metric.origin == "plugin 'errors' of own-metrics 1.2"
    assert find_metrics([], registry)[-1] is metric
    (record,) = (each for each in registry.plugins if each.name == "errors")
    assert (record.status, record.metrics, record.hooks) == (
        "ok",
        ("errors",),
        ("freezekit_metrics",),
    )
    assert "errors" not in load_registry(block=["own-metrics"]).metrics


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (ONE.format(name="accuracy", function=ERRORS), "the metric name 'accuracy' of plugin"),
        (ONE.format(name="top 3", function=ERRORS), "expected letters, digits and underscores"),
        (ONE.format(name="errors", function="3"), "the function of the metric 'errors' is no"),
        (
            ONE.replace("[Metric({name!r}, {function}, higher_is_better=False)]", "[len]"),
            "no freeze",
        ),
        (ONE.replace("[Metric({name!r}, {function}, higher_is_better=False)]", "None"), "metrics"),
    ],
)
def test_a_metric_that_cannot_be_is_told(source: str, said: str, site) -> None:
    site.add("bad-metrics", {"bad": source})
    registry = load_registry()
    (record,) = (each for each in registry.plugins if each.name == "bad")
    assert record.status == "failed"
    assert said in record.errors[0]
    assert not registry.metrics


def test_two_plugins_with_one_name_keep_the_first(site) -> None:
    for name in ("a", "b"):
        site.add(f"{name}-metrics", {name: ONE.format(name="errors", function=ERRORS)})
    registry = load_registry()
    taken = [each for each in registry.plugins if each.status == "failed"]
    assert len(taken) == 1
    assert "the metric name 'errors'" in taken[0].errors[0]
