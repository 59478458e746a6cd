"""`ScheduleContract`: the rules for schedules, as tests that an author inherits."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import torch

from freezekit.backbone.view import Backbone
from freezekit.errors import FreezekitError, PlanError, ScheduleError, StagingError
from freezekit.plugins.registering import default_registry
from freezekit.spec.progress import Observation
from freezekit.testing.cases import (
    changes,
    check_reason,
    installed,
    run_each,
    seeded,
    sentence,
    text_of,
)
from freezekit.testing.models import MODELS, images
from freezekit.testing.short_training import ALL, ShortTraining
from freezekit.testing.simulated import EPOCHS, STEPS, Asked, simulate
from freezekit.testing.state import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from freezekit.spec.schedule import Schedule


class ScheduleContract:
    """Tests of the rules that every schedule keeps.

    Subclass it in a test file, give the subclass a name that begins with "Test", and set
    `schedules`. pytest then runs these tests for each of them:

    - the text can be read, and its canonical text makes an equal schedule;
    - the schedule accepts at least one of the models;
    - each decision is valid: a plan that leaves something to train, rates, a state that JSON holds;
    - `decide` changes nothing, and gives the same decision when it is asked again, by a copy, and
      with a state that was saved;
    - in a short training, frozen parameters have the same bits and others move, and a training
      that was saved and resumed ends with the same bits.

    All but the first two run on each of the models. The training has 4 epochs of 5 steps. Give
    options with which the schedule does all that it can do in this time, such as
    "my-schedule:every=2step".

    Attributes:
        schedules: The schedules to test: texts such as "my-schedule:every=2step", or objects.
        models: As in `StrategyContract`.
        metrics: The names under which metrics are reported after each epoch. The value of each is
            0.5, then 0.25 three times. Name those that your schedule reads.

    Example:
        >>> class TestGradualUnfreeze(ScheduleContract):
        ...     schedules = ("gradual-unfreeze", "gradual-unfreeze:every=3step,decay=0.5")
    """

    schedules: ClassVar[Sequence[str | Schedule]] = ()
    models: ClassVar[Mapping[str, Callable[[], nn.Module]]] = MODELS
    metrics: ClassVar[Sequence[str]] = ("loss", "accuracy")

    def pytest_generate_tests(self, metafunc: Any) -> None:  # Any: pytest is needed in tests alone
        """Run each test for each schedule, and for each model if the test has a model."""
        run_each(
            metafunc,
            self.schedules,
            self.models,
            _made,
            contract=type(self).__name__,
            word="schedule",
            example="lp-ft",
        )

    def test_the_text_builds_and_round_trips(self, schedule: str | Schedule) -> None:
        """The canonical text of a schedule makes an equal schedule. A copy is equal too."""
        made = _made(schedule)
        if isinstance(schedule, str):
            again = default_registry().schedule(str(made))
            assert again == made, (
                f"The canonical text of {made!r} is {str(made)!r}, which makes {again!r}: make the "
                "schedule a frozen dataclass, and keep its fields as they are given."
            )
        assert made == copy.deepcopy(made), (
            f"A copy of {made!r} is not equal to it: make it a frozen dataclass."
        )
        unknown = made.observes - set(get_args(Observation))
        assert not unknown, (
            f"{text_of(schedule)} observes {sorted(unknown)[0]!r}, expected some of "
            f"{', '.join(map(repr, get_args(Observation)))}."
        )
        assert made.observe_every >= 1, (
            f"{text_of(schedule)} observes every {made.observe_every} steps, expected 1 or more."
        )

    def test_at_least_one_model_is_accepted(self, schedule: str | Schedule) -> None:
        """The schedule accepts at least one of the models."""
        reasons = {name: self._ask(schedule, self._view(name))[1] for name in self.models}
        assert not all(reasons.values()), (
            f"{text_of(schedule)} refuses all models of the test: {', '.join(reasons)}. For the "
            f"first it gives the reason: {sentence(next(iter(reasons.values())))} Add a model that "
            f"it accepts to `models`; the training has {EPOCHS} epochs of {STEPS} steps."
        )

    def test_decisions_are_valid_and_pure(self, schedule: str | Schedule, model_name: str) -> None:
        """`decide` gives valid answers, changes nothing, and gives the same when asked again."""
        backbone, made = self._view(model_name), _made(schedule)
        fresh = copy.deepcopy(made)
        before = state_of(backbone.model)
        answers, _ = self._ask(made, backbone)
        other = self._view(model_name)
        other.model.requires_grad_(False)
        for asked in answers:
            # as on another rank, and after a resume
            saved = replace(asked.progress, state=json.loads(json.dumps(asked.progress.state)))
            again = made.decide(backbone, asked.progress)
            by_copy = copy.deepcopy(fresh).decide(other, saved)
            assert again == by_copy == asked.decision, (
                f"decide() of {text_of(schedule)} gives another decision when it is asked again on "
                f"{model_name} after {saved.step} step(s) and {saved.epoch} epoch(s): let it "
                "depend on the structure of the model, the options and the progress alone, and "
                "return what it must remember as `state`."
            )
        changed = changes(backbone.model, before)
        assert not changed, (
            f"decide() of {text_of(schedule)} changes the model or the process ({changed}): return "
            "what is frozen in the Decision; freezekit changes the model."
        )

    def test_a_short_training_follows_it(self, schedule: str | Schedule, model_name: str) -> None:
        """Frozen is frozen in each phase, and a resumed training has the same bits."""
        try:
            whole = self._training(schedule, model_name)
        except (PlanError, StagingError, ScheduleError):
            return  # a refusal, which the other tests judge
        where = f"{text_of(schedule)} on {model_name}"
        saves: dict[str, bytes] = {}
        at = ALL  # the first step with a change of plan after it, or half of all
        for step in range(ALL):
            before, plan = whole.weights(), whole.run.plan
            whole.train(step)
            now = whole.weights()
            moved = {name for name, value in now.items() if not torch.equal(value, before[name])}
            assert not moved & plan.frozen, (
                f"{where}: {sorted(moved & plan.frozen)[0]!r} moved in step {step + 1}, in which "
                "it is frozen."
            )
            trained = {name for name, _ in whole.model.named_parameters()} - plan.frozen
            assert moved & trained, f"{where}: nothing that is trained moved in step {step + 1}."
            if at == ALL:
                saves["before"] = whole.saved()
            try:
                whole.tell(step)
            except FreezekitError as error:
                raise AssertionError(
                    f"{where}: the training stops after step {step + 1}: {sentence(error)} If "
                    "parameters of one stage get different multipliers, return the plan that gives "
                    "them from `plans` too."
                ) from error
            if at == ALL and (whole.run.transitions or step == ALL // 2):
                saves["after"], at = whole.saved(), step
        again = self._training(schedule, model_name)
        for when, saved in saves.items():
            again.load(saved)
            if when == "before":
                again.tell(at)
            for step in range(at + 1, ALL):
                again.train(step)
                again.tell(step)
            found = again.weights()
            other = [n for n, value in whole.weights().items() if not torch.equal(value, found[n])]
            assert not other, (
                f"{where}: a training that was saved {when} run.step() of step {at + 1}, and "
                f"resumed, ends with another {other[0]!r}: return what the schedule must remember "
                "as `state`."
            )

    def _training(self, schedule: str | Schedule, model_name: str) -> ShortTraining:
        made = copy.deepcopy(_made(schedule))  # what one training leaves in it, another lacks
        return ShortTraining(seeded(self.models[model_name]), made, self.metrics)

    def _view(self, name: str) -> Backbone:
        return Backbone(seeded(self.models[name]), images())

    def _ask(self, schedule: str | Schedule, backbone: Backbone) -> tuple[list[Asked], str]:
        """Return the answers in a simulated training, or none and why the model is refused."""
        answers: list[Asked] = []
        try:
            for asked in simulate(_made(schedule), backbone, default_registry(), self.metrics):
                answers.append(asked)
        except (PlanError, StagingError, ScheduleError) as error:
            if answers:
                done = answers[-1].progress
                raise AssertionError(
                    f"{text_of(schedule)} fails on {type(backbone.model).__name__} later than "
                    f"{done.step} step(s) and {done.epoch} epoch(s): {sentence(error)} If it does "
                    "not fit a model or a training, it refuses when it is first asked."
                ) from error
            check_reason(error, text_of(schedule), backbone.model)
            return [], str(error)
        except FreezekitError as error:
            raise AssertionError(
                f"{text_of(schedule)} gives an answer on {type(backbone.model).__name__} that is "
                f"not valid: {sentence(error)}"
            ) from error
        return answers, ""


def _made(schedule: str | Schedule) -> Schedule:
    if not isinstance(schedule, str):
        return schedule
    made: Schedule = installed(lambda: default_registry().schedule(schedule), "schedule")
    return made
