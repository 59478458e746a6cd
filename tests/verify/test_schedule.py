"""A schedule is verified in each of its phases."""

from __future__ import annotations

import pytest
import torch

from freezekit import FreezekitError, freeze_
from freezekit.freezing import apply as applying
from freezekit.testing import MODELS
from freezekit.verify import Check
from freezekit.verify.schedule import _Found

TEXT = "head-only then first-n-stages:n=1 at 1ep then head-only at 2ep"
IMAGES = torch.rand(2, 3, 32, 32)


def test_each_phase_and_each_resume_is_proved() -> None:
    found = freeze_(MODELS["residual"](), "full").verify_schedule(TEXT, IMAGES, epochs=3)
    assert found.passed, str(found)
    assert found.conditions.startswith("3 phases, 6 steps of SGD")
    assert "resume" in [check.name for check in found.checks]


def test_a_gradient_that_a_frozen_weight_keeps_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def keeps_gradients(model: torch.nn.Module, decided: object) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in decided.frozen)  # type: ignore[attr-defined]

    frozen = freeze_(MODELS["residual"](), "full")
    monkeypatch.setattr(applying, "_set_flags", keeps_gradients)
    found = frozen.verify_schedule(TEXT, IMAGES, epochs=3)
    failed = {check.name: check for check in found.checks if not check.passed}
    assert failed["frozen-weights"].detail.startswith("phase 3: ")


def test_a_check_that_fails_at_once_is_kept() -> None:
    found = _Found()
    found.add(Check("resume", False, "differs"))
    found.add(Check("resume", True, "the same"))
    assert [check.passed for check in found.checks] == [False]


def test_errors_say_what_was_expected() -> None:
    frozen = freeze_(MODELS["residual"](), "full")
    with pytest.raises(FreezekitError, match="epochs is 0, expected a whole number"):
        frozen.verify_schedule(TEXT, IMAGES, epochs=0)
