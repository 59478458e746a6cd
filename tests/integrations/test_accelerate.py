"""A loop with Accelerate has the bits of a plain one, with its states saved and loaded too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import Accelerator

from freezekit import freeze_
from tests.integrations.accelerate_training import accelerated
from tests.integrations.hugging_face_training import equal, network, plain

if TYPE_CHECKING:
    from pathlib import Path

TIMELINE = "head-only then first-n-stages:n=2 at 3step then full at 2ep"
WITH_RATES = "head-only then discriminative-lr:decay=0.5 at 5step"
pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def test_a_schedule_has_the_bits_of_a_plain_loop() -> None:
    expected, _ = plain("head-only", WITH_RATES, accumulate=2)
    model, run = accelerated("head-only", WITH_RATES, accumulate=2)
    assert equal(model, expected)
    assert [done.step for done in run.transitions] == [5]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "steps", "options"),
    [
        (TIMELINE, (2, 4, 9), {}),
        (WITH_RATES, (1, 2, 5), {"accumulate": 2, "shuffles": True}),
    ],
)
def test_states_are_saved_and_loaded(
    text: str, steps: tuple[int, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    whole, _ = accelerated("head-only", text, saves=tmp_path, **options)
    for step in steps:
        again, _ = accelerated("head-only", text, resume=tmp_path / str(step), seed=7, **options)
        assert equal(again, whole), step


@pytest.mark.slow
def test_mixed_precision_leaves_frozen_bits() -> None:
    before = network().state_dict()
    model, _ = accelerated("head-only", "first-n-stages:n=2", mixed_precision="bf16")
    after = model.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved
    assert not any(".conv1." in name.partition("layer")[0] or "layer1" in name for name in moved)


def test_one_process_can_freeze_after_prepare() -> None:
    accelerator = Accelerator(cpu=True)
    prepared = accelerator.prepare(network())
    frozen = freeze_(accelerator.unwrap_model(prepared), "head-only")
    assert not prepared.train().timm_model.layer1.training
    assert frozen.verify(torch.rand(2, 3, 32, 32)).passed
