"""The phases of a schedule are known before the training, at the steps at which it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pytest

from freezekit import (
    Backbone,
    Decision,
    FreezePlan,
    Progress,
    Schedule,
    ScheduleError,
    TrainingTime,
    UnknownStrategyError,
    load_backbone,
    load_registry,
)
from freezekit.schedules.preview import Phase, preview
from freezekit_strategies import HeadOnly

if TYPE_CHECKING:
    from collections.abc import Callable

    from freezekit.spec.progress import Observation

REGISTRY = load_registry()
BACKBONE = Backbone(load_backbone("torchvision:resnet18", device="meta"))
SOON = TrainingTime(5, "step")


@dataclass(frozen=True)
class Given(Schedule):
    """Decides by a function, and remembers what it was asked."""

    name: ClassVar[str] = "given"
    summary: ClassVar[str] = "decides by a function"
    answer: Callable[[Progress], Decision]
    sees: frozenset[Observation] = frozenset()
    asked: list[Progress] = field(default_factory=list, compare=False)

    @property
    def observes(self) -> frozenset[Observation]:
        return self.sees

    def decide(self, backbone: Backbone, progress: Progress) -> Decision:
        self.asked.append(progress)
        return self.answer(progress)


def phases(
    schedule: str | Schedule, epochs: int = 4, steps_per_epoch: int | None = 10
) -> tuple[Phase, ...]:
    made = REGISTRY.schedule(schedule) if isinstance(schedule, str) else schedule
    return preview(made, BACKBONE, REGISTRY, epochs=epochs, steps_per_epoch=steps_per_epoch)


def shape(found: tuple[Phase, ...]) -> list[tuple[str | None, int, int, int | None]]:
    return [(p.spec, p.begins.step, p.begins.epoch, p.steps) for p in found]


def test_it_is_asked_as_in_a_training() -> None:
    schedule = Given(lambda _: Decision("full"))
    assert shape(phases(schedule, epochs=2, steps_per_epoch=3)) == [("full", 0, 0, 6)]
    asked = [(p.step, p.epoch, p.step_in_epoch) for p in schedule.asked]
    assert asked == [
        (0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 0, 3), (3, 1, 0), (4, 1, 1), (5, 1, 2)
    ]  # fmt: skip
    assert all((p.epochs, p.steps_per_epoch) == (2, 3) for p in schedule.asked)


def test_without_steps_it_is_asked_at_epochs() -> None:
    schedule = Given(lambda _: Decision("full"))
    assert shape(phases(schedule, epochs=3, steps_per_epoch=None)) == [("full", 0, 0, None)]
    assert [(p.epoch, p.step_in_epoch) for p in schedule.asked] == [(0, 0), (1, 0), (2, 0)]
    assert [p.step > 0 for p in schedule.asked] == [False, True, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("head-only", [("head-only", 0, 0, 40)]),
        (
            "head-only then first-n-stages:n=2 at 1ep then full at 50%",
            [("head-only", 0, 0, 10), ("first-n-stages:n=2", 10, 1, 10), ("full", 20, 2, 20)],
        ),
        # The step is the last of an epoch: the phase begins with the next epoch.
        ("head-only then full at 10step", [("head-only", 0, 0, 10), ("full", 10, 1, 30)]),
        ("head-only then full at 1.25ep", [("head-only", 0, 0, 13), ("full", 13, 1, 27)]),
        # The plan is the same, so that there is no change.
        ("full then full + full at 1ep", [("full", 0, 0, 40)]),
    ],
)  # fmt: skip
def test_phases_of_a_timeline(text: str, expected: list[tuple[str, int, int, int]]) -> None:
    assert shape(phases(text)) == expected


def test_a_phase_without_a_step_is_left_out() -> None:
    def decide(progress: Progress) -> Decision:
        at_the_end = progress.step_in_epoch == 10
        return Decision("full" if at_the_end or progress.epoch else "head-only")

    specs = {(3, 0): "full", (3, 1): "first-n-stages:n=1"}
    schedule = Given(lambda p: Decision(specs.get((p.step, p.epoch))))
    found = shape(phases(schedule, epochs=2, steps_per_epoch=3))
    assert found == [(None, 0, 0, 3), ("first-n-stages:n=1", 3, 1, 3)]
    assert shape(phases(Given(decide))) == [("head-only", 0, 0, 10), ("full", 10, 1, 30)]


def test_what_it_returned_as_its_state_comes_back() -> None:
    def count(progress: Progress) -> Decision:
        asked = progress.state.get("asked", 0)
        assert isinstance(asked, int)
        return Decision("full" if asked >= 5 else "head-only", state={"asked": asked + 1})

    assert shape(phases(Given(count))) == [("head-only", 0, 0, 5), ("full", 5, 0, 35)]


def test_a_state_of_none_stays_as_it_is() -> None:
    schedule = Given(lambda p: Decision("full", state=None if p.step else {"once": True}))
    phases(schedule)
    assert [dict(p.state) for p in schedule.asked[:3]] == [{}, {"once": True}, {"once": True}]


def test_rates_are_those_of_the_first_and_the_last_step_of_a_phase() -> None:
    def decide(progress: Progress) -> Decision:
        if progress.step % 2:
            return Decision()  # rates stay as they are
        plan = "full" if progress.epoch else "head-only"
        return Decision(plan, rates={"head": 1 - progress.step / 64, "stem": 1.0})

    first, second = phases(Given(decide), epochs=2)
    assert first.rates == {"head": (1.0, 1 - 8 / 64), "stem": (1.0, 1.0)}
    assert second.rates == {"head": (1 - 10 / 64, 1 - 18 / 64), "stem": (1.0, 1.0)}


def test_a_stage_that_is_missing_has_the_factor_one() -> None:
    schedule = Given(lambda p: Decision("full", rates={"head": 0.5} if p.epoch == 3 else {}))
    (one,) = phases(schedule)
    assert one.rates == {"head": (1.0, 0.5)}


def test_plans_and_strategies_serve_in_place_of_a_spec() -> None:
    stem = FreezePlan(frozen={"conv1.weight"})
    schedule = Given(lambda p: Decision(stem if p.epoch else HeadOnly(), reason="as told"))
    first, second = phases(schedule)
    assert (first.spec, second.spec) == ("head-only", None)
    assert second.plan.frozen == {"conv1.weight"}
    assert second.plan.eval_modules == {"conv1"}
    assert second.reason == "as told"


def test_a_schedule_that_observes_is_asked_without_observations() -> None:
    def on_plateau(progress: Progress) -> Decision:
        if progress.epoch == 2 and "loss" not in progress.metrics:
            raise ScheduleError("no metric 'loss' was reported")
        return Decision("full" if progress.epoch else "head-only")

    schedule = Given(on_plateau, frozenset({"metrics"}))
    assert shape(phases(schedule)) == [("head-only", 0, 0, 10), ("full", 10, 1, None)]
    with pytest.raises(ScheduleError, match="no metric 'loss'"):
        phases(Given(on_plateau))  # it does not say that it observes


@pytest.mark.parametrize("text", ["head-only then full at 15step", "head-only then full at 1.5ep"])
def test_times_in_an_epoch_need_its_steps(text: str) -> None:
    with pytest.raises(ScheduleError, match="needs the number of optimizer steps of an epoch"):
        phases(text, steps_per_epoch=None)


def test_options_in_steps_need_the_steps_of_an_epoch() -> None:
    @dataclass(frozen=True)
    class Late(Given):
        until: TrainingTime = SOON

    with pytest.raises(ScheduleError, match="the time 5step needs the number of optimizer steps"):
        phases(Late(lambda _: Decision("full")), steps_per_epoch=None)


@pytest.mark.parametrize(("epochs", "steps"), [(0, 10), (4, 0)])
def test_totals_below_one_are_refused(epochs: int, steps: int) -> None:
    with pytest.raises(ScheduleError, match="is 0, expected 1 or more"):
        phases("full", epochs, steps)


def test_a_phase_of_an_unknown_strategy_is_named() -> None:
    schedule = Given(lambda p: Decision("ful" if p.epoch else "head-only"))
    with pytest.raises(
        UnknownStrategyError, match=r"after 10 step\(s\) and 1 epoch\(s\), with 'ful'"
    ):
        phases(schedule)
