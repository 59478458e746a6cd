"""A training follows a schedule, is stopped and resumed at any step, and says what is wrong."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch

from freezekit import (
    Decision,
    FreezeError,
    FreezekitWarning,
    FreezePlan,
    PlanError,
    PluginError,
    Progress,
    Schedule,
    ScheduleError,
    SpecError,
    UnknownScheduleError,
    UnknownStrategyError,
    freeze_,
)
from tests.sampled import sampled
from tests.schedules.training import PER_EPOCH, Net, Trained, batch, begin, finish, go_on

if TYPE_CHECKING:
    from freezekit.spec.progress import Observation

STEPS = 24
SHORT = pytest.mark.filterwarnings("ignore:this epoch had 1 steps")
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


@pytest.mark.parametrize("optimizer", sampled(["sgd", "rmsprop", "adamw", "lamb"], every=4))
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


@pytest.mark.parametrize(("epochs", "changes"), [(0.5, (1, 0)), (1.5, (3, 0)), (2, (4, 1))])
def test_percents_are_of_a_training_that_ends_within_an_epoch(
    epochs: float, changes: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    frozen = freeze_(Net(), "by-name:glob=fc.*")
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    options: dict[str, Any] = {"epochs": epochs, "steps_per_epoch": PER_EPOCH}
    run = frozen.follow("head-only then full at 50%", optimizer, **options)
    for i in range(int(epochs * PER_EPOCH)):
        optimizer.step()
        run.step()
        if (i + 1) % PER_EPOCH == 0:
            run.epoch()
    if epochs % 1:
        run.epoch()  # what is told of an epoch with fewer steps would be an error
    assert [(t.step, t.epoch) for t in run.transitions] == [changes]


def test_too_many_steps_in_an_epoch_are_told_once() -> None:
    training = begin("head-only then full at 1ep")
    for _ in range(PER_EPOCH):
        training.optimizer.step()
        training.run.step()
    training.optimizer.step()
    with pytest.warns(FreezekitWarning, match="more than steps_per_epoch=4 steps"):
        training.run.step()
    training.optimizer.step()
    training.run.step()  # a second warning would be an error


def test_steps_of_the_optimizer_are_counted_and_not_calls() -> None:
    training = begin("head-only then full at 2step then head-only at 6step")
    run = training.run
    for i in range(6):
        training.model(batch(i)[0]).square().mean().backward()
        if i % 2:
            training.optimizer.step()
            training.optimizer.zero_grad()
        run.step()
    assert [(t.step, len(t.change.thawed)) for t in run.transitions] == [(2, 12)]
    for _ in range(3):  # a loop that calls it once for several steps
        training.optimizer.step()
    assert run.step() is not None
    training.optimizer.step()
    run.epoch()  # and one that does not call it
    assert run.progress.step == 7


@SHORT
def test_gradients_that_wait_at_the_end_of_an_epoch_let_a_change_wait() -> None:
    training = begin("head-only then full at 1ep")
    run, optimizer = training.run, training.optimizer
    training.model(batch(0)[0]).square().mean().backward()
    optimizer.step()
    run.step()
    training.model(batch(1)[0]).square().mean().backward()  # with the gradients of before
    assert run.epoch() is None
    optimizer.step()
    assert run.step()
    assert [(t.step, t.epoch) for t in run.transitions] == [(2, 1)]


@SHORT
@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_that_were_used_let_no_change_wait(to_none: bool) -> None:
    training = begin("head-only then full at 1ep then head-only at 2ep")
    for epoch in range(2):
        training.model(batch(epoch)[0]).square().mean().backward()
        training.optimizer.step()
        training.run.step()
        if epoch:
            training.optimizer.zero_grad(set_to_none=to_none)
        assert training.run.epoch()


def test_an_epoch_that_cannot_be_meant_is_told() -> None:
    training = begin("head-only then full at 2ep", epochs=3)
    run, optimizer = training.run, training.optimizer
    optimizer.step()
    run.step()
    with pytest.warns(FreezekitWarning, match="this epoch had 1 steps, and steps_per_epoch=4"):
        run.epoch()
    with pytest.warns(FreezekitWarning, match=r"epoch\(\) was called twice without a step"):
        run.epoch()
    for _ in range(PER_EPOCH):
        optimizer.step()
        run.step()
    run.epoch()
    for _ in range(PER_EPOCH):
        optimizer.step()
        run.step()
    with pytest.warns(FreezekitWarning, match="this training is longer than epochs=3"):
        run.epoch()


def test_an_optimizer_that_is_not_the_one_that_steps_is_told() -> None:
    training = begin("head-only then full at 1ep")
    other = torch.optim.SGD(training.model.parameters(), 0.1)
    for _ in range(PER_EPOCH):
        other.step()
        training.run.step()
    with pytest.warns(FreezekitWarning, match=r"called 4 time\(s\) in this epoch, and no step"):
        training.run.epoch()


def test_flags_that_other_code_changed_are_told_at_the_end_of_an_epoch() -> None:
    training = begin("head-only")
    training.model.stem.requires_grad_(True)
    with pytest.warns(FreezekitWarning, match="the model has departed from its plan"):
        training.run.epoch()


def test_rates_that_other_code_sets_are_told() -> None:
    training = begin("gradual-unfreeze:every=1ep,decay=0.5")
    run, optimizer = training.run, training.optimizer
    for _ in range(PER_EPOCH):
        optimizer.step()
        run.step()
    run.epoch()
    for group in optimizer.param_groups:
        group["lr"] = 0.3
    optimizer.step()
    run.step()
    optimizer.step()
    with pytest.warns(FreezekitWarning, match=r"have the same learning rate, 0.3: other code"):
        run.step()


def test_a_schedule_that_follows_another_sets_its_rates_anew() -> None:
    training = begin("lp-ft")
    run, optimizer, frozen = training.run, training.optimizer, training.frozen
    for _ in range(6):
        for _ in range(PER_EPOCH):
            optimizer.step()
            run.step()
        run.epoch()
    assert {group["lr"] for group in optimizer.param_groups} == {0.001}
    frozen.follow("full then head-only at 2ep", optimizer, epochs=3, steps_per_epoch=PER_EPOCH)
    assert {round(group["lr"], 9) for group in optimizer.param_groups} == {0.01}


@SHORT
def test_a_follow_that_fails_leaves_the_one_before() -> None:
    training = begin("head-only then full at 1ep")
    with pytest.raises(ScheduleError, match="needs the number of epochs"):
        training.frozen.follow("head-only then full at 50%", training.optimizer)
    training.optimizer.step()
    training.run.step()
    assert training.run.epoch()


def test_what_a_later_phase_would_refuse_is_refused_at_once() -> None:
    training = begin("head-only")
    follow, optimizer = training.frozen.follow, training.optimizer
    with pytest.raises(PlanError, match="the phase first-n-stages:n=99: "):
        follow("head-only then first-n-stages:n=99 at 2ep", optimizer, epochs=3)
    with pytest.raises(UnknownStrategyError, match="the phase nonsense: "):
        follow("on-plateau:phases=head-only|nonsense", optimizer, epochs=3)
    head = torch.optim.SGD(p for p in training.model.parameters() if p.requires_grad)
    with pytest.raises(FreezeError, match="the phase full: this SGD does not hold 12 parameter"):
        follow("head-only then full at 2ep", head, epochs=3)
    with pytest.warns(FreezekitWarning, match="A phase that trains them will be refused"):
        follow("lp-ft", head, epochs=3, steps_per_epoch=PER_EPOCH)
    everything = torch.optim.SGD(training.model.parameters())
    with pytest.raises(FreezeError, match="the phase layer-decay: one group of the optimizer"):
        follow("head-only then layer-decay at 2ep", everything, epochs=3)


def test_a_change_that_is_refused_does_not_restore_weights() -> None:
    @dataclass(frozen=True)
    class Restores(Schedule):
        name: ClassVar[str] = "restores"
        summary: ClassVar[str] = "restore, then thaw"

        def decide(self, backbone: Any, progress: Progress) -> Decision:
            if not progress.epoch:
                return Decision("head-only", keeps_weights=not progress.step)
            return Decision("full", restores_weights=True)

    training = begin(Restores())
    head = [p for p in training.model.parameters() if p.requires_grad]
    with pytest.warns(FreezekitWarning, match="will be refused"):
        run = training.frozen.follow(Restores(), torch.optim.SGD(head), epochs=2)
    with torch.no_grad():
        head[0].add_(1)
    before = head[0].clone()
    with pytest.raises(FreezeError, match="does not hold 12 parameter"):
        run.epoch()
    assert torch.equal(head[0], before)


@pytest.mark.parametrize(
    "damage",
    [
        {"state": "{"},
        {"observer": {}},
        {"waiting": "nonsense"},
        {"step": -5},
        {"rates": 3},
        {"multipliers": "many"},
    ],
)
def test_a_damaged_state_is_refused_and_nothing_changes(damage: dict[str, Any]) -> None:
    training = begin("head-only then full at 1ep")
    state = training.run.state_dict()
    training.run.epoch()
    with pytest.raises(ScheduleError, match=r"the state is damaged: .*; take another checkpoint"):
        training.run.load_state_dict(state | damage)
    assert training.run.plan.frozen == frozenset()


def test_what_follow_and_epoch_are_given_is_checked() -> None:
    training = begin("head-only")
    other = torch.optim.SGD(training.model.parameters())
    for given in (None, torch.optim.lr_scheduler.StepLR(other, 1)):
        with pytest.raises(FreezeError, match="expected a list, as in schedulers="):
            training.frozen.follow("head-only", training.optimizer, given)  # type: ignore[arg-type]
    with pytest.raises(FreezeError, match="schedulers has 3, expected learning-rate schedulers"):
        training.frozen.follow("head-only", training.optimizer, [3])
    with pytest.raises(ScheduleError, match="the metrics are 'loss', expected numbers by name"):
        training.run.epoch("loss")  # type: ignore[arg-type]

    @dataclass(frozen=True)
    class Mistyped(Watching):
        @property
        def observes(self) -> Any:
            return frozenset({"gradient"})

    with pytest.raises(PluginError, match=r"observes .*'gradient'.*expected a frozenset of some"):
        training.frozen.follow(Mistyped(), training.optimizer, sample=batch(0)[0])


@SHORT
def test_a_schedule_that_goes_back_while_a_change_waits_has_its_rates() -> None:
    @dataclass(frozen=True)
    class Back(Schedule):
        name: ClassVar[str] = "back"
        summary: ClassVar[str] = "another plan for one small batch"

        def decide(self, backbone: Any, progress: Progress) -> Decision:
            if progress.epoch == 1 and not progress.step_in_epoch:
                return Decision("full", {backbone.head.name: 0.5})
            return Decision("head-only", {backbone.head.name: 0.5} if progress.epoch else {})

    trained = begin(Back())
    run, optimizer = trained.run, trained.optimizer
    before = optimizer.param_groups[-1]["lr"]
    optimizer.step()
    run.step()
    trained.model(batch(0)[0]).square().mean().backward()
    assert run.epoch() is None  # gradients wait, and the change with them
    optimizer.step()
    assert run.step() is None
    assert optimizer.param_groups[-1]["lr"] == pytest.approx(before / 2)


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
        ("full", {"epochs": 0}, ScheduleError, "epochs is 0, expected a number above 0"),
        ("full", {"epochs": "2"}, ScheduleError, "epochs is '2', expected a number above 0"),
        (
            "full",
            {"steps_per_epoch": 2.5},
            ScheduleError,
            "steps_per_epoch is 2.5, expected a whole",
        ),
        (
            "full",
            {"epochs": 1.5, "steps_per_epoch": None},
            ScheduleError,
            "epochs is 1.5, which ends within an epoch: give steps_per_epoch=",
        ),
        (
            "head-only then full at 1ep",
            {"epochs": 0.75},
            ScheduleError,
            "begins at 1ep, but the training ends after 0.75 epoch",
        ),
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


def test_a_state_is_taken_after_those_of_the_optimizer_and_its_scheduler() -> None:
    whole = go_on(begin(TIMELINE, "adamw", cosine), range(STEPS), save=(11,))
    saved = whole.saves["11 after"]
    again = begin(TIMELINE, "adamw", cosine, seed=7)
    again.load(saved)
    state = torch.load(io.BytesIO(saved), weights_only=True)["run"]
    again.run = again.frozen.follow(
        TIMELINE,
        again.optimizer,
        again.schedulers,
        epochs=6,
        steps_per_epoch=PER_EPOCH,
        state=state,
    )
    assert not again.run.transitions
    go_on(again, range(12, STEPS))
    assert again.losses == whole.losses
    assert all(torch.equal(value, again.weights()[name]) for name, value in whole.weights().items())
    with pytest.raises(ScheduleError, match="the state is of the schedule"):
        again.frozen.follow("full then head-only at 1ep", again.optimizer, epochs=6, state=state)
    again.run.step()  # what was followed before goes on


@pytest.mark.parametrize("as_keyword", [True, False])
def test_gradients_of_a_closure_are_observed_after_it(as_keyword: bool) -> None:
    seen: list[list[dict[str, Any]]] = []
    for with_closure in (False, True):
        training = begin(Watching())
        run, optimizer = training.run, training.optimizer

        def compute(step: int, training: Trained = training) -> torch.Tensor:
            training.optimizer.zero_grad()
            loss = training.model.train()(batch(step)[0]).square().mean()
            loss.backward()
            return loss

        states = []
        for i in range(4):
            closure = partial(compute, i)
            if not with_closure:
                closure()
                optimizer.step()
            elif as_keyword:
                assert optimizer.step(closure=closure) is not None
            else:
                assert optimizer.step(closure) is not None
            states.append(run.state_dict()["observer"]["observed"])
            run.step()
        seen.append(states)
    assert seen[0] == seen[1]
    assert seen[0][1]["gradient_norms"]
