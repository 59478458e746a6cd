"""The largest batch by predicted peaks: the same as where each batch has a model of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from freezekit import ModelError
from freezekit.bench import static
from freezekit.bench.static import predicted_memory
from freezekit.fit import prediction
from freezekit.fit.prediction import crossing, largest_predicted, predicted_at
from freezekit.fit.search import largest_batch
from freezekit.results.records import Workload
from freezekit.results.variant import Variant
from tests.sampled import exhaustive

if TYPE_CHECKING:
    from pathlib import Path

TINY = Workload("timm:test_resnet", image_size=32)
MIB = 2**20

CACHES = """
import torch
from torch import nn

class Caches(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.kept = []

    def forward(self, x):
        self.kept.append(torch.ones_like(x))  # a leak
        return self.fc(self.conv(x).mean((2, 3)))

class Reads(Caches):
    def forward(self, x):
        x = self.conv(x)
        return self.fc((x if x.sum() > 0 else -x).mean((2, 3)))
"""


@pytest.mark.parametrize(
    ("workload", "variant", "limit"),
    [
        (TINY, Variant("full"), 40 * MIB),
        exhaustive((TINY, Variant("first-n-stages:n=2"), 40 * MIB)),
        exhaustive((TINY, Variant("batch-norm", lean=True), 40 * MIB)),
        (replace(TINY, optimizer="adamw", channels_last=True), Variant("full"), 40 * MIB),
        exhaustive(
            (Workload("timm:test_vit", image_size=160), Variant("head-only", lean=True), 40 * MIB)
        ),
        exhaustive((TINY, Variant("full"), 9 * MIB)),
        (TINY, Variant("full"), 1000),
    ],
)
def test_it_is_what_models_of_their_own_say(
    workload: Workload, variant: Variant, limit: int
) -> None:
    def peak(batch: int) -> int:
        found = predicted_memory(replace(workload, batch_size=batch), variant, None)
        return found.peak_bytes or 0

    found = largest_predicted(workload, variant, None, limit)
    expected = largest_batch(peak, limit)
    assert (found.batch_size, found.next_peak_bytes) == (expected.batch, expected.next_peak_bytes)
    shown = replace(workload, batch_size=found.batch_size or 2)
    assert found.memory == predicted_memory(shown, variant, None)


def test_few_batches_are_tried_and_one_model_is_built_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = []
    load = static.load_on_shapes
    monkeypatch.setattr(static, "load_on_shapes", lambda work: built.append(1) or load(work))
    found = largest_predicted(TINY, Variant("first-n-stages:n=2"), None, 40 * MIB)
    assert found.tried == 4
    assert len(built) == 2, "one is stepped, one confirms the answer"


def test_a_model_that_keeps_what_it_saw_has_one_of_its_own_for_each_batch(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(CACHES)
    workload = Workload(f"{tmp_path}/my.py:Caches", image_size=32)
    found = largest_predicted(workload, Variant("full"), None, 2 * MIB)
    assert found.memory == predicted_at(workload, Variant("full"), None, found.batch_size).memory
    assert found.memory.peak_bytes <= 2 * MIB < found.next_peak_bytes


def test_a_model_that_reads_values_is_refused_as_before(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(CACHES)
    workload = Workload(f"{tmp_path}/my.py:Reads", image_size=32)
    with pytest.raises(ModelError, match="needs real numbers"):
        largest_predicted(workload, Variant("full"), None, MIB)


def test_the_answer_is_confirmed_on_a_model_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = largest_predicted(TINY, Variant("full"), None, 20 * MIB)
    monkeypatch.setattr(
        prediction._Stepped, "peak", lambda self, batch: self.peaks.setdefault(batch, batch)
    )
    monkeypatch.setattr(prediction._Stepped, "crossing", lambda self, limit: None)
    found = largest_predicted(TINY, Variant("full"), None, 20 * MIB)
    assert replace(found, tried=0) == replace(honest, tried=0)


@pytest.mark.parametrize(
    ("few", "more", "limit", "expected"),
    [
        ([10, 90], [30, 91], 100, 11),
        ([10, 90], [30, 91], 93, 8),
        ([10, 90], [30, 91, 5], 93, None),
        ([10, 90], [10, 90], 93, None),
        ([10], [30], 1, 1),
    ],
)
def test_where_the_highest_moment_crosses(
    few: list[int], more: list[int], limit: int, expected: int | None
) -> None:
    assert crossing(few, more, (2, 4), limit) == expected
