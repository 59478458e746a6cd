"""The contract for schedules: the built-in ones keep it, and each breach of it is reported."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch

from freezekit import Backbone, Decision, FreezePlan, PlanError, Progress, Schedule
from freezekit.testing import ScheduleContract

if TYPE_CHECKING:
    from collections.abc import Callable


class TestBuiltIn(ScheduleContract):
    schedules = (
        "gradual-unfreeze",
        "lp-ft",
        "chain-thaw:every=2step",
        "freeze-out",
        "one-cycle-unfreeze",
        "auto-rgn:batches=2,freeze_below=0.5",
        "plasticity:every=1,window=2,tolerance=5",
        "on-plateau:phases=head-only|layer-decay:decay=0.5,patience=1,restore_best=true",
    )


@dataclass(frozen=True)
class Good(Schedule):
    """Trains the head, then everything."""

    name: ClassVar[str] = "good"
    summary: ClassVar[str] = "the head, then everything"

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        return Decision("full" if progress.epoch >= 2 else "head-only")


class Answers(Good):
    """Decides by a function of the view and the progress."""

    def __init__(
        self,
        answer: Callable[[Backbone, Progress], Any] = lambda *_: Decision("full"),
        seen: frozenset[str] = frozenset(),
        every: int = 1,
    ) -> None:
        vars(self).update(answer=answer, seen=seen, every=every)

    @property
    def observes(self) -> frozenset[Any]:
        return self.seen

    @property
    def observe_every(self) -> int:
        return self.every

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        return self.answer(backbone, progress)  # type: ignore[no-any-return]  # wrong ones too


@dataclass(frozen=True)
class Remembers(Good):
    """Counts in itself how often it is asked."""

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        asked = vars(self).get("asked", 0) + 1
        object.__setattr__(self, "asked", asked)
        return Decision("full" if asked > 12 else "head-only")


class Unequal(Good):
    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Good.__hash__


def mutates_the_state(_: Backbone, progress: Progress) -> Decision:
    progress.state["asked"] = progress.step  # type: ignore[index]  # that is the fault
    return Decision("full", state=progress.state)


def refuses(_: Backbone, progress: Progress) -> Decision:
    raise PlanError("good: this takes no model at all")


def refuses_late(_: Backbone, progress: Progress) -> Decision:
    if progress.step == 7:
        raise PlanError("good: the model has no second stem")
    return Decision("full")


def by_flags(backbone: Backbone, _: Progress) -> Decision:
    is_trained = all(p.requires_grad for p in backbone.model.parameters())
    return Decision("full" if is_trained else "head-only")


def sets_a_flag(backbone: Backbone, _: Progress) -> Decision:
    next(backbone.model.parameters()).requires_grad = False
    return Decision("full")


def changes_weights(backbone: Backbone, progress: Progress) -> Decision:
    if progress.step == 3:
        with torch.no_grad():
            next(backbone.model.parameters()).add_(1)
    return Decision("full")


def draws(_: Backbone, progress: Progress) -> Decision:
    return Decision("full", {"head": 0.5 + random.random() / 2})


def only_draws(_: Backbone, progress: Progress) -> Decision:
    torch.rand(())
    return Decision("full")


def halves_a_part(_: Backbone, progress: Progress) -> Decision:
    return Decision(
        FreezePlan(lr_scales={"layer2.0.conv1.weight": 0.5}) if progress.epoch > 1 else "full"
    )


CLAUSES: dict[str, Callable[[ScheduleContract, Schedule], None]] = {
    "builds": lambda c, s: c.test_the_text_builds_and_round_trips(s),
    "accepts": lambda c, s: c.test_at_least_one_model_is_accepted(s),
    "decides": lambda c, s: c.test_decisions_are_valid_and_pure(s, "residual"),
    "trains": lambda c, s: c.test_a_short_training_follows_it(s, "residual"),
}


def test_a_good_schedule_passes() -> None:
    for check in CLAUSES.values():
        check(ScheduleContract(), Good())


def constant(**answer: Any) -> Answers:
    return Answers(lambda *_: Decision(**{"plan": "full", **answer}))


@pytest.mark.parametrize(
    ("schedule", "clause", "said"),
    [
        (Unequal(), "builds", "is not equal to it: make it a frozen dataclass"),
        (Answers(seen=frozenset({"losses"})), "builds", "observes 'losses', expected some of"),
        (Answers(every=0), "builds", "observes every 0 steps, expected 1 or more"),
        (
            Answers(refuses),
            "accepts",
            "refuses all models .* gives the reason: good: this takes no model at all. Add a",
        ),
        (Answers(refuses_late), "decides", r"later than 6 step\(s\) and 1 epoch.*no second stem"),
        (Remembers(), "decides", "gives another decision when it is asked again on residual"),
        (Answers(by_flags), "decides", "gives another decision .* let it depend on the structure"),
        (Answers(draws), "decides", "gives another decision when it is asked again"),
        (Answers(only_draws), "decides", r"changes the model or the process \(random state\)"),
        (Answers(sets_a_flag), "decides", "changed the model, which it may only read"),
        (Answers(changes_weights), "decides", r"\(weights or buffers\)"),
        (Answers(mutates_the_state), "decides", "changes progress.state: return the new state"),
        (Answers(lambda *_: "full"), "decides", "returned 'str', expected a Decision"),
        (constant(plan=7), "decides", "a plan of type 'int'"),
        (constant(plan="ful"), "decides", "unknown strategy 'ful', did you mean 'full'"),
        (constant(plan=FreezePlan({"no.weight"})), "decides", "not valid.*no.weight"),
        (constant(rates={"head": 0.0}), "decides", r"the rate 0\.0 for 'head'"),
        (constant(rates={"neck": 1.0}), "decides", "a rate for 'neck', which is no stage"),
        (constant(state={"seen": {1, 2}}), "decides", "which JSON does not hold"),
        (constant(restores_weights=True), "decides", "and has kept none"),
        (Answers(lambda *_: 1 / 0), "decides", "failed: ZeroDivisionError"),
        (Remembers(), "trains", "saved .*, and resumed, ends with another"),
        (Answers(halves_a_part), "trains", "stops after step 10: .* from `plans` too"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_breach_is_reported(schedule: Schedule, clause: str, said: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s){said}") as caught:
        CLAUSES[clause](ScheduleContract(), schedule)
    assert str(caught.value).partition("\n")[0].rstrip().endswith((".", ":", "?"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "Contract names no schedule: set `schedules`"),
        ("lp-ft", r"the text 'lp-ft' as `schedules`, expected a tuple: schedules = \('lp-ft',\)"),
        (("lp-fd",), r"unknown schedule 'lp-fd'.*install its plugin: pip install -e \."),
        (("ful then full at 1ep",), r"unknown strategy 'ful'.*install its plugin"),
    ],
)
def test_a_contract_without_usable_schedules_says_so(given: Any, message: str) -> None:
    class Contract(ScheduleContract):
        schedules = given

    class Metafunc:
        fixturenames = ("schedule",)

    with pytest.raises(AssertionError, match=message):
        Contract().pytest_generate_tests(Metafunc())
