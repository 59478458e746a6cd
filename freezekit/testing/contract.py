"""`StrategyContract`: the rules for strategies, as tests that an author inherits."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from freezekit.backbone.view import Backbone
from freezekit.errors import FreezekitError, PlanError, StagingError
from freezekit.freezing.planning import plan as decide
from freezekit.handle.freeze import freeze_
from freezekit.plugins.registering import default_registry
from freezekit.spec.grammar import format_named
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
from freezekit.testing.state import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from freezekit.freezing.plan import FreezePlan
    from freezekit.spec.strategy import Strategy

LEARNING_RATE = 0.05
STUCK_GRADIENT = 1 / 100
"""A parameter with a gradient above this share of its largest value must move in two steps."""


class StrategyContract:
    """Tests of the rules that every strategy keeps.

    Subclass it in a test file, give the subclass a name that begins with "Test", and set `specs`.
    pytest then runs these tests for each spec:

    - the spec can be read, and its canonical text makes an equal strategy;
    - the strategy accepts at least one of the models;
    - `plan` changes nothing, and gives the same plan when it is asked again;
    - the plan names parameters and modules of the model, and leaves something to train;
    - after real training steps, frozen parameters have the same bits and others have moved.

    All but the first two run on each of the models.

    Attributes:
        specs: The strategies to test: specs such as "my-strategy:option=3", or strategy objects.
        models: Functions that make small models, by name. Each model accepts images of shape
            (batch, 3, 32, 32). Extend it to test your own: `{**MODELS, "mine": MyNet}`.

    Example:
        >>> class TestHeadOnly(StrategyContract):
        ...     specs = ("head-only",)
    """

    specs: ClassVar[Sequence[str | Strategy]] = ()
    models: ClassVar[Mapping[str, Callable[[], nn.Module]]] = MODELS

    def pytest_generate_tests(self, metafunc: Any) -> None:  # Any: pytest is needed in tests alone
        """Run each test for each spec, and for each model if the test has a model."""
        run_each(
            metafunc,
            self.specs,
            self.models,
            _strategies,
            contract=type(self).__name__,
            word="spec",
            example="head-only",
        )

    def test_the_spec_builds_and_round_trips(self, spec: str | Strategy) -> None:
        """The canonical text of a strategy makes an equal strategy. A copy is equal too."""
        for strategy in _strategies(spec):
            text = format_named(strategy)
            if isinstance(spec, str):
                (again,) = default_registry().create(text)
                assert again == strategy, (
                    f"The canonical text of {strategy!r} is {text!r}, which makes {again!r}: make "
                    "the strategy a frozen dataclass, and keep its fields as they are given."
                )
            assert strategy == copy.deepcopy(strategy), (
                f"A copy of {strategy!r} is not equal to it: make it a frozen dataclass."
            )

    def test_at_least_one_model_is_accepted(self, spec: str | Strategy) -> None:
        """The strategy accepts at least one of the models."""
        if all(self._plan(spec, self._model(name)) is None for name in self.models):
            reason = "no reason when it is asked again"
            try:
                decide(self._model(next(iter(self.models))), spec, example_input=images())
            except FreezekitError as refused:
                reason = str(refused)
            raise AssertionError(
                f"{text_of(spec)} refuses all models of the test: {', '.join(self.models)}. For "
                f"the first it gives the reason: {sentence(reason)} Add a model that it accepts "
                "to `models`."
            )

    def test_the_plan_is_pure(self, spec: str | Strategy, model_name: str) -> None:
        """`plan` changes nothing, and gives the same plan when it is asked again."""
        model = self._model(model_name)
        before = state_of(model)
        first = self._ask(spec, model)
        changed = changes(model, before)
        assert not changed, (
            f"plan() of {text_of(spec)} changes the model or the process ({changed}): "
            "return the decision as a FreezePlan; freezekit changes the model."
        )
        other = self._model(model_name).requires_grad_(False)
        asked_again = [self._ask(spec, each) for each in (model, model, other)]
        assert all(answer == first for answer in asked_again), (
            f"plan() of {text_of(spec)} gives another plan when it is asked again on {model_name}: "
            "let the plan depend on the structure of the model and on the options alone."
        )

    def test_the_plan_names_parts_of_the_model(self, spec: str | Strategy, model_name: str) -> None:
        """The plan names parameters and modules of the model, and leaves something to train."""
        model = self._model(model_name)
        plan = self._plan(spec, model)
        if plan is None:
            return
        parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        modules = {name for name, _ in model.named_modules()}
        for what, names, known in (
            ("freezes", plan.frozen, parameters),
            ("gives a learning rate to", plan.lr_scales, parameters),
            ("holds in eval mode", plan.eval_modules or (), modules),
        ):
            unknown = sorted(set(names) - known)
            assert not unknown, (
                f"{text_of(spec)} {what} {unknown[0]!r}, which {model_name} does not have: take "
                "names from backbone.parameters and backbone.modules."
            )
        assert parameters - plan.frozen, (
            f"{text_of(spec)} freezes all of {model_name}: leave something to train, or raise "
            "PlanError with the reason."
        )

    def test_frozen_is_frozen(self, spec: str | Strategy, model_name: str) -> None:
        """After real training steps, frozen parameters have the same bits and others have moved."""
        model = self._model(model_name)
        if self._plan(spec, model) is None:
            return
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        frozen = freeze_(model, spec, example_input=images())
        found = frozen.verify(images())
        assert found.passed, f"{text_of(spec)} breaks a claim of its plan on {model_name}:\n{found}"
        optimizer = torch.optim.SGD(frozen.param_groups(LEARNING_RATE), LEARNING_RATE, momentum=0.9)
        for _ in range(2):
            model.train()
            output = model(images())
            logits = output[-1] if isinstance(output, tuple) else output
            optimizer.zero_grad()
            logits.square().mean().backward()
            optimizer.step()
        now = dict(model.named_parameters())
        moved = {name for name, value in before.items() if not torch.equal(value, now[name])}
        not_frozen = sorted(moved & frozen.plan.frozen)
        assert not not_frozen, (
            f"{text_of(spec)} freezes {not_frozen[0]!r} of {model_name}, but it moved."
        )
        assert moved, f"{text_of(spec)} leaves parameters of {model_name} to train, but none moved."
        stuck = [
            name
            for name, p in now.items()
            if name not in moved
            and p.grad is not None
            and p.grad.abs().max() > p.abs().max() * STUCK_GRADIENT
        ]
        assert not stuck, (
            f"{text_of(spec)} leaves {stuck[0]!r} of {model_name} to train. It has a gradient but "
            "did not move: its learning rate is too small."
        )

    def _model(self, name: str) -> nn.Module:
        return seeded(self.models[name])

    def _plan(self, spec: str | Strategy, model: nn.Module) -> FreezePlan | None:
        """Return the plan that freezekit would apply, or None if the strategy refuses the model."""
        if self._ask(spec, model) is None:
            return None
        try:
            return decide(model, spec, example_input=images())
        except FreezekitError as error:
            raise AssertionError(
                f"{text_of(spec)} makes a plan that is not valid: {sentence(error)}"
            ) from error

    def _ask(self, spec: str | Strategy, model: nn.Module) -> list[FreezePlan] | None:
        """Return the plan of each strategy, or None if one refuses the model with a reason."""
        strategies = _strategies(spec)
        view = Backbone(model, images())
        try:
            return [strategy.plan(view) for strategy in strategies]
        except (PlanError, StagingError) as error:
            check_reason(error, text_of(spec), model)
            return None
        except (Exception, SystemExit) as error:
            raise AssertionError(
                f"{text_of(spec)} fails on {type(model).__name__} with {type(error).__name__}: "
                f"{sentence(error)} If a strategy does not fit a model, it raises PlanError with "
                "the reason."
            ) from error


def _strategies(spec: str | Strategy) -> tuple[Strategy, ...]:
    if not isinstance(spec, str):
        return (spec,)
    strategies: tuple[Strategy, ...] = installed(
        lambda: default_registry().create(spec), "strategy"
    )
    return strategies
