"""What a schedule answers is checked, and a failure names the plugin at fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from freezekit import (
    Backbone,
    Decision,
    FreezePlan,
    PlanError,
    PluginError,
    Progress,
    Schedule,
    ScheduleError,
    load_backbone,
    load_registry,
)
from freezekit.schedules.asking import ask, plan_of

if TYPE_CHECKING:
    from collections.abc import Callable

REGISTRY = load_registry()
START = Progress(epochs=4, steps_per_epoch=10)
LATER = Progress(step=3, step_in_epoch=3, epochs=4, steps_per_epoch=10)


@dataclass(frozen=True)
class Given(Schedule):
    """Answers what it is told to."""

    name: ClassVar[str] = "given"
    summary: ClassVar[str] = "answers what it is told to"
    answer: Callable[[Backbone, Progress], Any]  # Any: wrong answers too

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        found: Decision = self.answer(backbone, progress)
        return found


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(load_backbone("torchvision:resnet18", device="meta"))


def refusal(backbone: Backbone, answer: Any, progress: Progress = START) -> str:
    with pytest.raises(PluginError) as caught:
        ask(Given(lambda *_: answer), backbone, progress, REGISTRY)
    text = str(caught.value)
    assert text.startswith("schedule 'given' (class 'Given' of ")
    return text


@pytest.mark.parametrize("progress", [START, LATER])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "returned 'NoneType', expected a Decision"),
        ("full", "returned 'str', expected a Decision"),
        (Decision(3), "a plan of type 'int', expected a spec"),  # type: ignore[arg-type]  # wrong on purpose
        (Decision(rates={"layer5": 1.0}), "'layer5', which is no stage of ResNet, did you mean"),
        (
            Decision(rates={"stem": 0.0}),
            "the rate 0.0 for 'stem', expected a finite number above 0",
        ),
        (Decision(rates={"stem": float("nan")}), "the rate nan for 'stem'"),
        (Decision(rates={"stem": float("inf")}), "the rate inf for 'stem'"),
        (Decision(rates={"stem": "much"}), "the rate 'much' for 'stem'"),  # type: ignore[dict-item]  # wrong on purpose
        (Decision(rates=3), "rates of type 'int'"),  # type: ignore[arg-type]  # wrong on purpose
        (Decision(state={"seen": (1, 2)}), "the state {'seen': (1, 2)}, which JSON does not hold"),  # type: ignore[dict-item]  # wrong on purpose
        (Decision(state={"loss": float("nan")}), "the state {'loss': nan}"),
        (Decision(state={1: 2}), "the state {1: 2}"),  # type: ignore[dict-item]  # wrong on purpose
        (Decision(state=[1]), "the state [1]"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_an_answer_that_is_not_valid_is_the_fault_of_the_plugin(
    backbone: Backbone, answer: Any, words: str, progress: Progress
) -> None:
    assert words in refusal(backbone, answer, progress)


def test_a_valid_answer_comes_back_as_it_is(backbone: Backbone) -> None:
    answer = Decision("full", {"stem": 0.5, "head": 2}, {"seen": [1, {"a": None}]}, reason="late")
    assert ask(Given(lambda *_: answer), backbone, START, REGISTRY) is answer


@pytest.mark.parametrize("last", [None, Decision("full")])
def test_a_failure_names_the_schedule_and_its_cause(
    backbone: Backbone, last: Decision | None
) -> None:
    schedule = Given(lambda _, progress: progress.metrics["loss"])
    with pytest.raises(PluginError, match=r"schedule 'given' .* failed: KeyError: 'loss'") as found:
        ask(schedule, backbone, LATER, REGISTRY, last)
    assert isinstance(found.value.__cause__, KeyError)


@pytest.mark.parametrize("progress", [START, LATER])
def test_a_refusal_on_purpose_goes_through(backbone: Backbone, progress: Progress) -> None:
    def refuse(*_: object) -> None:
        raise ScheduleError("no metric")

    with pytest.raises(ScheduleError, match=r"^no metric$"):
        ask(Given(refuse), backbone, progress, REGISTRY, Decision("full"))


def test_a_schedule_may_not_change_the_model() -> None:
    model = load_backbone("torchvision:resnet18", device="meta")

    def touch(*_: object) -> Decision:
        model.requires_grad_(False).eval()
        return Decision("full")

    with pytest.raises(PluginError, match=r"'given' .* in decide\(\) changed the model"):
        ask(Given(touch), Backbone(model), START, REGISTRY)
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model.modules())


def test_what_was_checked_is_not_checked_again(backbone: Backbone) -> None:
    rates = {"stem": 0.5}
    last = Decision("full", rates)
    schedule = Given(lambda *_: Decision("full", rates))
    ask(schedule, backbone, LATER, REGISTRY, last)
    rates["stem"] = -1.0  # the same object: it is not looked at
    ask(schedule, backbone, LATER, REGISTRY, last)
    with pytest.raises(PluginError, match=r"the rate -1\.0"):
        ask(schedule, backbone, LATER, REGISTRY, Decision("full", dict(rates)))


def test_the_plan_of_a_phase_is_that_of_its_spec(backbone: Backbone) -> None:
    found = plan_of("head-only", backbone, START, REGISTRY)
    assert len(found.frozen) == 60
    assert plan_of(found, backbone, START, REGISTRY) == found


def test_a_phase_that_cannot_be_planned_is_named(backbone: Backbone) -> None:
    with pytest.raises(PlanError, match=r"after 3 step\(s\) and 0 epoch\(s\), with 'by-name:glob="):
        plan_of("by-name:glob=*", backbone, LATER, REGISTRY)
    everything = FreezePlan(frozen=backbone.parameters)
    with pytest.raises(PlanError, match=r"with a plan: nothing is left to train"):
        plan_of(everything, backbone, LATER, REGISTRY)
