"""A training follows a schedule, is stopped and resumed at any step, and says what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch

from freezekit import (
    Decision,
    FreezeError,
    FreezekitWarning,
    FreezePlan,
    Progress,
    Schedule,
    ScheduleError,
    SpecError,
    UnknownScheduleError,
    UnknownStrategyError,
    freeze_,
)
from tests.schedules.training import PER_EPOCH, Net, Trained, batch, begin, finish, go_on

if TYPE_CHECKING:
    from freezekit.spec.progress import Observation

STEPS = 24
TIMELINE = (
    "head-only then first-n-stages:n=2 at 5step then full at 10step "
    "then first-n-stages:n=2 at 15step then discriminative-lr:decay=0.5 at 80%"
)


@dataclass(frozen=True)
class Cooling(Schedule):
    """Rates that change in each step, and the stem frozen at the end: as FreezeOut does."""

    name: ClassVar[str] = "cooling"
    summary: ClassVar[str] = "cool, then freeze"

    def decide(self, backbone: Any, progress: Progress) -> Decision:
        stem = backbone.stem
        if progress.step >= 12:
            return Decision(FreezePlan(stem.parameters), rates={})
        return Decision("full", rates={stem.name: 1 - progress.step / 12})


@dataclass(frozen=True)
class Watching(Schedule):
    """It decides by all that can be observed, and remembers."""

    name: ClassVar[str] = "watching"
    summary: ClassVar[str] = "freeze what moves least"

    @property
    def observes(self) -> frozenset[Observation]:
        return frozenset({"gradients", "weights", "outputs", "rate", "metrics"})

    @property
    def observe_every(self) -> int:
        return 2

    def decide(self, backbone: Any, progress: Progress) -> Decision:
        state = dict(progress.state)
        seen = progress.observed
        if progress.metrics:
            state["loss"] = progress.metrics["loss"]
        if not seen.gradient_norms:
            return Decision("full" if not state else None, state=state)
        ranked = {
            stage: seen.gradient_norms[stage] / seen.weight_norms[stage]
            + seen.update_norms[stage]
            + seen.output_changes.get(stage, 0)
            for stage in seen.gradient_norms
        }
        last = state.setdefault("ranks", [])
        state["ranks"] = [*last[-3:], sum(ranked.values())]
        least = min(ranked, key=lambda name: ranked[name])
        for stage in backbone.stages[:-1]:
            if stage.name == least and progress.step % 4 == 0:
                return Decision(FreezePlan(stage.parameters), state=state, rates={least: 0.5})
        return Decision("full", state=state)


def cosine(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)]


def resumed(schedule: Any, optimizer: str, key: str, saved: bytes) -> Trained:
    when, at = key.split()[1], int(key.split()[0])
    training = begin(schedule, optimizer, cosine, seed=7)
    training.load(saved)
    if when == "before":
        training.run.step()
        finish(training, at)
    return go_on(training, range(at + 1, STEPS))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop", "lamb"])
@pytest.mark.parametrize("schedule", [TIMELINE, Cooling(), Watching()], ids=str)
def test_a_resumed_training_has_the_bits_of_one_that_was_not_stopped(
    schedule: Any, optimizer: str
) -> None:
    steps = (0, 3, 4, 9, 11, 14, 20)
    whole = go_on(begin(schedule, optimizer, cosine), range(STEPS), save=steps)
    assert whole.run.transitions
    for key, saved in whole.saves.items():
        again = resumed(schedule, optimizer, key, saved)
        assert again.losses == whole.losses, key
        expected, found = whole.weights(), again.weights()
        assert all(torch.equal(expected[name], found[name]) for name in expected), key
        assert again.run.state_dict()["multipliers"] == whole.run.state_dict()["multipliers"]


def test_rates_change_in_each_step_without_a_new_plan() -> None:
    rates: list[float] = []

    def look(training: Trained, _: int) -> None:
        rates.append(next(g["lr"] for g in training.optimizer.param_groups if g["name"] == "stem"))

    training = go_on(begin(Cooling(), lr=0.1), range(16), each=look)
    assert rates[:11] == pytest.approx([0.1 * (1 - i / 12) for i in range(1, 12)])
    assert [done.step for done in training.run.transitions] == [12]


def test_an_epoch_ends_at_its_end_though_its_last_batch_is_missing() -> None:
    training = begin("head-only then full at 1ep then head-only at 2ep")
    run, optimizer = training.run, training.optimizer
    for steps in (PER_EPOCH - 1, PER_EPOCH):
        for _ in range(steps):
            optimizer.step()
            run.step()
        run.epoch()
    assert [(t.step, t.epoch) for t in run.transitions] == [(3, 1), (7, 2)]


def test_too_many_steps_in_an_epoch_are_told_once() -> None:
    training = begin("head-only then full at 1ep")
    for _ in range(PER_EPOCH):
        training.optimizer.step()
        training.run.step()
    with pytest.warns(FreezekitWarning, match="more than steps_per_epoch=4 steps"):
        training.run.step()
    training.run.step()  # a second warning would be an error


def test_a_change_waits_for_the_end_of_an_accumulation() -> None:
    training = begin("head-only then full at 3step")
    run = training.run
    for i in range(4):
        loss = training.model(batch(i)[0]).square().mean()
        loss.backward()
        if i % 2:
            training.optimizer.step()
            training.optimizer.zero_grad()
        run.step()
    assert [t.step for t in run.transitions] == [4]


def test_a_schedule_that_goes_back_while_a_change_waits_has_its_rates() -> None:
    @dataclass(frozen=True)
    class Back(Schedule):
        name: ClassVar[str] = "back"
        summary: ClassVar[str] = "another plan for one small batch"

        def decide(self, backbone: Any, progress: Progress) -> Decision:
            if progress.step == 1:
                return Decision("full", {backbone.stem.name: 0.5})
            return Decision("head-only", {backbone.head.name: 0.5} if progress.step else {})

    trained = begin(Back())
    x, y = batch(0)
    before = trained.optimizer.param_groups[-1]["lr"]
    torch.nn.functional.cross_entropy(trained.model(x), y).backward()
    assert trained.run.step() is None  # the optimizer made no step: the change waits
    trained.optimizer.step()
    assert trained.run.step() is None
    assert trained.optimizer.param_groups[-1]["lr"] == pytest.approx(before / 2)


def test_a_model_without_stages_is_trained_through_plans_by_name() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    one = Odd()
    model = torch.nn.ModuleDict({"one": one, "two": Odd()})
    frozen = freeze_(model, "full")
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, 0.0, all_phases=True))
    text = "by-name:contains=one then full at 1step"
    run = frozen.follow(text, optimizer, epochs=1, steps_per_epoch=2)
    assert not one.scale.requires_grad
    optimizer.step()
    assert run.step()
    assert one.scale.requires_grad


def test_weights_are_kept_and_restored() -> None:
    @dataclass(frozen=True)
    class Back(Schedule):
        name: ClassVar[str] = "back"
        summary: ClassVar[str] = "go back"

        def decide(self, backbone: Any, progress: Progress) -> Decision:
            return Decision(
                "full", keeps_weights=progress.step == 2, restores_weights=progress.step == 4
            )

    kept: dict[int, dict[str, torch.Tensor]] = {}

    def look(training: Trained, step: int) -> None:
        kept[step] = training.weights()

    training = go_on(begin(Back()), range(3), each=look)
    state = training.saved()
    again = begin(Back(), seed=3)
    again.load(state)
    go_on(again, range(3, 4), each=look)
    assert all(torch.equal(kept[1][name], kept[3][name]) for name in kept[1])
    assert not torch.equal(kept[2]["fc.weight"], kept[1]["fc.weight"])


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("head-only then full at 50%", {"epochs": None}, ScheduleError, "needs the number of ep"),
        ("head-only then full at 12ep", {}, ScheduleError, "the training ends after 6 epoch"),
        (
            "head-only then full at 8step then head-only at 1ep",
            {},
            ScheduleError,
            "begins at 1ep, which is not after 8step",
        ),
        ("head-onyl then full at 1ep", {}, UnknownStrategyError, "did you mean 'head-only'"),
        ("gradual", {}, UnknownScheduleError, "unknown schedule 'gradual'"),
        (3, {}, SpecError, "the schedule is int 3, expected text"),
        ("full", {"epochs": 0}, ScheduleError, "epochs is 0, expected a whole number"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused(
    text: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    torch.manual_seed(0)
    model = Net()
    frozen = freeze_(model, "by-name:glob=fc.*")
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    before = frozen.plan
    given = {"epochs": 6, "steps_per_epoch": PER_EPOCH, **options}
    with pytest.raises(error, match=message):
        frozen.follow(text, optimizer, **given)
    assert frozen.plan == before


def test_a_state_of_another_schedule_or_model_is_refused() -> None:
    training = begin("head-only then full at 1ep")
    state = training.run.state_dict()
    for change, message in (
        ({"schedule": "full"}, "the state is of the schedule 'full', and this training follows"),
        ({"model": "0"}, "the state is of a model with other parameters"),
        ({"version": 9}, "no state of a followed schedule of version 1"),
    ):
        with pytest.raises(ScheduleError, match=message):
            training.run.load_state_dict({**state, **change})
    with pytest.warns(FreezekitWarning, match="phases may begin at other times"):
        training.run.load_state_dict({**state, "epochs": 8})


def test_a_state_without_that_of_the_optimizer_is_told_at_the_first_step() -> None:
    text = "full then discriminative-lr:decay=0.5 at 1step"
    training = go_on(begin(text), range(3))
    state = training.frozen.state_dict()
    other = begin(text)
    other.frozen.load_state_dict(state)
    with pytest.raises(ScheduleError, match="load the optimizer's state of the same checkpoint"):
        other.run.step()


def test_a_scheduler_that_was_not_given_is_told_at_the_first_step() -> None:
    training = begin("head-only then full at 1ep")
    torch.optim.lr_scheduler.StepLR(training.optimizer, 2)
    with pytest.warns(FreezekitWarning, match="was not given to follow"):
        training.run.step()


def test_what_is_no_longer_followed_is_refused() -> None:
    training = begin("head-only then full at 1ep")
    second = training.frozen.follow("full", training.optimizer)
    with pytest.raises(FreezeError, match="this schedule is no longer followed"):
        training.run.step()
    second.step()
    training.frozen.undo()
    with pytest.raises(FreezeError, match="was undone or frozen again"):
        second.step()
