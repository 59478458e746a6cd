"""The handle as people see it: printed, and in a notebook."""

from __future__ import annotations

import copy
from html.parser import HTMLParser

import torch
from torch import nn
from torch.utils.data import TensorDataset

from freezekit import Frozen, freeze_
from freezekit.testing import MODELS


class Elements(HTMLParser):
    """Collects text, and checks that each element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def texts_of(frozen: Frozen) -> list[str]:
    elements = Elements()
    elements.feed(frozen._repr_html_())
    assert not elements.open
    return elements.texts


def test_print_shows_the_report() -> None:
    frozen = freeze_(MODELS["residual"](), "head-only", lean=True)
    assert str(frozen) == frozen.report()
    assert repr(frozen) != str(frozen)


def test_print_shows_the_schedule_and_the_caches() -> None:
    frozen = freeze_(MODELS["residual"](), "head-only")
    cached = frozen.cache(TensorDataset(torch.rand(4, 3, 32, 32)), batch_size=2)
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    frozen.follow("head-only then full at 1ep", optimizer, epochs=2)
    schedule, cache = str(frozen).splitlines()[-2:]
    assert schedule.startswith("schedule: FollowedSchedule('head-only then full at 1ep': 0 step(s)")
    assert cache == f"cache: {cached!r}"
    assert "cache" not in str(copy.deepcopy(frozen))


def test_a_notebook_shows_what_the_report_says() -> None:
    frozen = freeze_(MODELS["residual"](), "first-n-stages:n=1 + discriminative-lr:decay=0.5")
    frozen.backbone.model.add_module("<b>", nn.Linear(1, 1))
    found = texts_of(frozen)
    told = " ".join(frozen.report().split())
    assert found[0] == told[: len(found[0])]
    for row in frozen.report().splitlines()[3:6]:
        assert set(row.split()) <= {word for text in found for word in text.split()}
    assert any("new parameter(s) are trained: '<b>.bias'" in text for text in found)


def test_a_notebook_shows_a_handle_that_is_no_longer_in_force() -> None:
    frozen = freeze_(MODELS["residual"](), "head-only")
    frozen.undo()
    assert texts_of(frozen)[0].splitlines() == frozen.report().splitlines()[:2]
