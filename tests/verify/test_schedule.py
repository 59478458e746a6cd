"""A schedule is verified in each of its phases."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch

from freezekit import (
    Backbone,
    Decision,
    FreezekitError,
    FreezePlan,
    Frozen,
    Schedule,
    freeze_,
    load_backbone,
)
from freezekit.backbone.view import view_of_copy
from freezekit.freezing import apply as applying
from freezekit.schedules import change, followed, live_rates
from freezekit.testing import MODELS
from freezekit.verify import Check
from freezekit.verify.phases import together
from freezekit.verify.reaching import STEPS
from freezekit_strategies import FirstNStages, HeadOnly
from tests.sampled import sampled

if TYPE_CHECKING:
    from freezekit import Progress
    from freezekit.verify import ScheduleVerification

TEXT = "head-only then first-n-stages:n=1 at 1ep then head-only at 2ep"
IMAGES = torch.rand(2, 3, 32, 32)
BUILT_IN = {
    "gradual-unfreeze": 6,
    "lp-ft": 2,
    "chain-thaw": 7,
    "freeze-out": 6,
    "one-cycle-unfreeze": 2,
    "auto-rgn:batches=1,freeze_below=0.3": 2,
    "plasticity:every=1,window=2,tolerance=1": 6,
    "on-plateau:metric=accuracy,mode=max,patience=1,restore_best=true": 2,
    "head-only then first-n-stages:n=2 at 1ep then full at 50%": 3,
}
"""By text, how many phases of a model of six stages are reached at least."""


def frozen() -> Frozen:
    return freeze_(MODELS["residual"](), FreezePlan())


def failed(found: ScheduleVerification) -> dict[str, Check]:
    return {check.name: check for check in found.checks if not check.passed}


@pytest.mark.parametrize(("text", "phases"), sampled(BUILT_IN.items(), every=3))
@pytest.mark.filterwarnings("ignore::freezekit.FreezekitWarning")
def test_all_phases_are_reached_and_proved(text: str, phases: int) -> None:
    model = load_backbone("timm:test_resnet", num_classes=4)
    found = freeze_(model, FreezePlan()).verify_schedule(text, IMAGES)
    assert found.passed, str(found)
    assert len(found.phases) >= phases
    assert found.not_reached == ()
    assert all(phase.steps for phase in found.phases)


def test_a_model_of_torchvision_is_proved() -> None:
    model = load_backbone("torchvision:resnet18", num_classes=4)
    found = freeze_(model, FreezePlan()).verify_schedule("lp-ft", IMAGES)
    assert found.passed, str(found)
    assert [(p.spec, p.begins_step, p.steps) for p in found.phases] == [
        ("head-only", 0, 1),
        ("full", 1, 1),
    ]


def test_the_model_and_random_numbers_stay_as_they_are() -> None:
    handle = frozen()
    before = {name: value.clone() for name, value in handle.backbone.model.state_dict().items()}
    state = torch.get_rng_state()
    assert handle.verify_schedule("head-only then full at 1ep").passed
    assert torch.equal(state, torch.get_rng_state())
    after = handle.backbone.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert handle.plan.frozen == frozenset()


def test_lean_is_proved_too() -> None:
    found = freeze_(MODELS["residual"](), FreezePlan(), lean=True).verify_schedule(TEXT, IMAGES)
    assert found.passed, str(found)


def test_each_phase_and_each_resume_is_told_in_80_columns() -> None:
    found = frozen().verify_schedule(TEXT, IMAGES, epochs=3)
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[:4] == [
        "phase  begins  steps    trained  plan",
        "    1     0ep      2    2 of 26  head-only",
        "    2     1ep      2   16 of 26  first-n-stages:n=1",
        "    3     2ep      2    2 of 26  head-only",
    ]
    assert lines[-1] == "proved on 3 phases, 6 steps of SGD in 3 epochs, input (2, 3, 32, 32)"
    names = [check.name for check in found.checks]
    assert names[-3:] == ["one-optimizer", "resume", "undo"]
    data = json.loads(found.to_json())
    assert (data["passed"], data["not_reached"]) == (True, [])
    assert [phase["frozen_parameters"] for phase in data["phases"]] == [24, 10, 24]
    assert [c["name"] for c in data["phases"][0]["checks"]] == names[:-3]


def test_phases_that_are_not_reached_are_named() -> None:
    found = frozen().verify_schedule("gradual-unfreeze", IMAGES, epochs=4)
    assert found.not_reached == ("full",)
    assert "not reached: full; more epochs reach more phases" in str(found)


@dataclass(frozen=True)
class Objects(Schedule):
    """Gives a strategy, then a plan."""

    name: ClassVar[str] = "objects"
    summary: ClassVar[str] = "a strategy, then a plan"

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        if progress.epoch >= 3:
            return Decision(FreezePlan({"conv1.weight"}), reason="late")
        return Decision(FirstNStages(n=1) if progress.epoch else HeadOnly(), reason="early")


def test_plans_without_a_text_are_reached_or_not() -> None:
    assert frozen().verify_schedule(Objects(), IMAGES).not_reached == ()
    found = frozen().verify_schedule(Objects(), IMAGES, epochs=2)
    assert found.passed, str(found)
    assert found.not_reached == ("a plan",)
    assert [phase.spec for phase in found.phases] == ["", "early"]  # the first has no reason


def test_stages_that_a_plugin_named_are_those_of_the_copy() -> None:
    model = MODELS["residual"]()
    first, *others = Backbone(model).stages
    named = Backbone(model, stager=lambda _: (replace(first, name="begin"), *others))
    assert view_of_copy(named, copy.deepcopy(model)).stages == named.stages


def test_a_schedule_that_looks_too_seldom_is_told() -> None:
    found = frozen().verify_schedule("plasticity", IMAGES, epochs=1)
    assert found.passed
    assert found.notes == (
        "observed nothing: the schedule looks every 100 steps, of 2; give more epochs",
    )


def test_the_limit_of_steps_is_told() -> None:
    found = frozen().verify_schedule("gradual-unfreeze:every=20ep", IMAGES, steps_per_epoch=2)
    assert [phase.steps for phase in found.phases] == [40, 40, 2]
    assert found.not_reached == ("last-n-stages:n=3", "full")
    assert found.notes == (f"at most {STEPS} steps unless epochs are given",)
    with pytest.raises(FreezekitError, match=f"at most {STEPS} steps; give that number"):
        frozen().verify_schedule("head-only then full at 500step", IMAGES)


def test_a_gradient_that_a_frozen_weight_keeps_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def keeps_gradients(model: torch.nn.Module, decided: FreezePlan) -> None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in decided.frozen)

    handle = frozen()
    monkeypatch.setattr(applying, "_set_flags", keeps_gradients)
    assert failed(handle.verify_schedule(TEXT, IMAGES))["frozen-weights"].detail.startswith(
        "phase 3: "
    )


@pytest.mark.filterwarnings("ignore:the model has departed from its plan")
def test_statistics_that_stay_live_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = frozen()
    monkeypatch.setattr(applying, "_hold", lambda model, decided: None)
    found = failed(handle.verify_schedule("full then head-only at 1ep", IMAGES))
    assert found["fixed-statistics"].detail.startswith("phase 2: ")
    assert found["same-in-train-and-eval"].detail.startswith("phase 2: ")


def test_factors_that_the_rates_do_not_follow_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_rates, "set_multipliers", lambda *_: None)  # where no plan changes
    found = failed(frozen().verify_schedule("freeze-out", IMAGES))
    assert found["learning-rates"].detail.startswith("phase 1: the rates of ")
    monkeypatch.undo()
    monkeypatch.setattr(change, "set_multipliers", lambda *_: None)  # where one does
    found = failed(frozen().verify_schedule("lp-ft", IMAGES))
    assert found["learning-rates"].detail.startswith("phase 2: the rates of ")
    assert "fc.weight" in found["learning-rates"].offenders


def test_a_state_that_leaves_something_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = followed.FollowedSchedule.load_state_dict

    def forgets(self: followed.FollowedSchedule, state: dict[str, object]) -> None:
        whole(self, {**state, "plan": self.plan.to_json()})

    monkeypatch.setattr(followed.FollowedSchedule, "load_state_dict", forgets)
    detail = failed(frozen().verify_schedule(TEXT, IMAGES))["resume"].detail
    assert detail.endswith("differ after step 3 from a training not resumed")


def test_what_failed_in_one_phase_is_not_hidden_by_the_others() -> None:
    good, bad = Check("gradients", True, "all 2"), Check("gradients", False, "1 of 2", ("a",))
    assert together([good, bad, bad]) == Check(
        "gradients", False, "phase 2: 1 of 2; also in phase 3", ("a",)
    )
    partly = Check("gradients", True, "all 3; 1 get none from this loss")
    assert together([good, partly]).detail.endswith(
        "finite gradient; phase 2: 1 get none from this loss"
    )


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (TEXT, {"epochs": 0}, "epochs is 0, expected a whole number of at least 1"),
        (TEXT, {"steps_per_epoch": True}, "steps_per_epoch is True, expected a whole number"),
        (TEXT, {"epochs": 1}, "begins at 2ep, but the training ends after 1 epoch"),
        (7, {}, "the schedule is int 7, expected text"),
        ("full then by-name:contains=. at 1ep", {}, "the phase that begins after 2 step"),
        (
            "on-plateau:phases=full|by-name:contains=.",
            {},
            "with 'by-name:contains=.': nothing is left",
        ),
    ],
)
def test_errors_say_what_was_expected(text: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(FreezekitError, match=message):
        frozen().verify_schedule(text, IMAGES, **options)
