"""What every strategy keeps to, as tests: subclass, name the specs, done."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any, ClassVar

import numpy
import torch

from freezekit.backbone.view import Backbone
from freezekit.errors import FreezekitError, PlanError, StagingError
from freezekit.freezing.planning import plan as decide
from freezekit.handle.frozen import freeze_
from freezekit.plugins.registry import default_registry
from freezekit.spec.grammar import format_strategy
from freezekit.testing.models import MODELS, images

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from freezekit.freezing.plan import FreezePlan
    from freezekit.spec.strategy import Strategy

LEARNING_RATE = 0.05


class StrategyContract:
    """Tests that a strategy keeps to what freezekit promises of strategies.

    Subclass it in a test file under a name that begins with "Test", and pytest does the rest.

    Attributes:
        specs: The strategies to test, as on the command line: "my-strategy:option=3".
        models: Functions that make small models, by name; all take images of 32 pixels.

    Example:
        >>> class TestHeadOnly(StrategyContract):
        ...     specs = ("head-only",)
    """

    specs: ClassVar[Sequence[str | Strategy]] = ()
    models: ClassVar[Mapping[str, Callable[[], nn.Module]]] = MODELS

    def pytest_generate_tests(self, metafunc: Any) -> None:  # Any: pytest is needed in tests alone
        """Run each test for each spec, and for each model where it takes one."""
        if "spec" in metafunc.fixturenames:
            assert self.specs, f"{type(self).__name__} names no spec: set `specs`."
            metafunc.parametrize("spec", self.specs, ids=[_text(spec) for spec in self.specs])
        if "model_name" in metafunc.fixturenames:
            metafunc.parametrize("model_name", list(self.models))

    def test_the_spec_builds_and_round_trips(self, spec: str | Strategy) -> None:
        """The text of a strategy builds an equal one, and so does a copy."""
        for strategy in _strategies(spec):
            text = format_strategy(strategy)
            if isinstance(spec, str):
                (again,) = default_registry().create(text)
                assert again == strategy, (
                    f"The spec {text!r} of {strategy!r} builds {again!r}, which is not the same."
                )
            assert strategy == copy.deepcopy(strategy), (
                f"A copy of {strategy!r} is not equal to it: make it a frozen dataclass."
            )

    def test_some_model_is_taken(self, spec: str | Strategy) -> None:
        """At least one of the models is not refused."""
        taken = [name for name in self.models if self._plan(spec, self._model(name)) is not None]
        if not taken:
            reason = "nothing when it is asked again"
            try:
                decide(self._model(next(iter(self.models))), spec, example_input=images())
            except FreezekitError as refused:
                reason = str(refused)
            raise AssertionError(
                f"{_text(spec)} refuses every model it is tested on: {', '.join(self.models)}. "
                f"Of the first it says: {reason}."
            )

    def test_the_plan_is_pure(self, spec: str | Strategy, model_name: str) -> None:
        """Planning changes nothing, and the same question has the same answer."""
        model = self._model(model_name)
        before = _state(model)
        first = self._ask(spec, model)
        changed = [what for what, value in _state(model).items() if value != before[what]]
        assert not changed, (
            f"{_text(spec)} changes the model while it plans ({', '.join(changed)}): a strategy "
            "only looks, and freezekit acts."
        )
        other = self._model(model_name).requires_grad_(False)
        asked_again = [self._ask(spec, each) for each in (model, model, other)]
        assert all(answer == first for answer in asked_again), (
            f"{_text(spec)} decides otherwise when it is asked again on {model_name}: let nothing "
            "but the model and the options decide."
        )

    def test_the_plan_names_what_exists(self, spec: str | Strategy, model_name: str) -> None:
        """All that a plan names is in the model, and something is left to train."""
        model = self._model(model_name)
        plan = self._plan(spec, model)
        if plan is None:
            return
        parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        modules = {name for name, _ in model.named_modules()}
        for what, names, known in (
            ("freezes", plan.frozen, parameters),
            ("gives a learning rate to", plan.lr_scales, parameters),
            ("holds", plan.eval_modules or (), modules),
        ):
            unknown = sorted(set(names) - known)
            assert not unknown, (
                f"{_text(spec)} {what} {unknown[0]!r}, which {model_name} does not have: take "
                "names from backbone.parameters and backbone.modules."
            )
        assert parameters - plan.frozen, (
            f"{_text(spec)} freezes all of {model_name}: leave something to train, or raise "
            "PlanError with the reason."
        )

    def test_frozen_is_frozen(self, spec: str | Strategy, model_name: str) -> None:
        """After real steps what is frozen kept every bit, what is not has moved; undo undoes."""
        model = self._model(model_name)
        if self._plan(spec, model) is None:
            return
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        frozen = freeze_(model, spec, example_input=images())
        found = frozen.verify(images())
        assert found.passed, f"{_text(spec)} on {model_name} is not what it says:\n{found}"
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
        slipped = sorted(moved & frozen.plan.frozen)
        assert not slipped, f"{_text(spec)} froze {slipped[0]!r} of {model_name}, and it moved."
        assert moved, f"{_text(spec)} left parameters of {model_name} to train, and none moved."
        stuck = [
            name
            for name, p in now.items()
            if name not in moved and p.grad is not None and p.grad.abs().max() > p.abs().max() / 100
        ]
        assert not stuck, (
            f"{_text(spec)} left {stuck[0]!r} of {model_name} to train, and it did not move in "
            "spite of its gradient: its learning rate is too small."
        )

    def _model(self, name: str) -> nn.Module:
        torch.manual_seed(0)
        return self.models[name]()

    def _plan(self, spec: str | Strategy, model: nn.Module) -> FreezePlan | None:
        """Return the plan as freezekit takes it, None where the strategy refuses the model."""
        if self._ask(spec, model) is None:
            return None
        try:
            return decide(model, spec, example_input=images())
        except FreezekitError as error:
            raise AssertionError(f"{_text(spec)} makes no plan that holds: {error}.") from error

    def _ask(self, spec: str | Strategy, model: nn.Module) -> list[FreezePlan] | None:
        """Return the answer of each strategy, None where one refuses the model in the right way."""
        view = Backbone(model, images())
        try:
            return [strategy.plan(view) for strategy in _strategies(spec)]
        except (PlanError, StagingError) as error:
            said = str(error)
            assert len(said.split()) >= 3, (
                f"{_text(spec)} refuses {type(model).__name__} and says {said!r}: say what is "
                "missing, in a sentence."
            )
            return None
        except (Exception, SystemExit) as error:
            raise AssertionError(
                f"{_text(spec)} fails on {type(model).__name__} with {type(error).__name__}: "
                f"{error}. A strategy that cannot take a model raises PlanError with the reason."
            ) from error


def _strategies(spec: str | Strategy) -> tuple[Strategy, ...]:
    return default_registry().create(spec) if isinstance(spec, str) else (spec,)


def _text(spec: str | Strategy) -> str:
    return spec if isinstance(spec, str) else spec.name


def _state(model: nn.Module) -> dict[str, object]:
    """Return all that a strategy may not touch, by what it is called."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        "requires_grad": {n: p.requires_grad for n, p in model.named_parameters()},
        "gradients": {n: id(p.grad) for n, p in model.named_parameters()},
        "train mode": {n: m.training for n, m in model.named_modules()},
        "weights or buffers": {n: t.detach().cpu().numpy().tobytes() for n, t in tensors.items()},
        "parameters or buffers": {n: id(t) for n, t in tensors.items()},
        "modules": {n: (id(m), type(m)) for n, m in model.named_modules()},
        "attributes": {n: _plain(vars(m)) for n, m in model.named_modules()},
        "hooks": [
            *({k: len(v) for k, v in vars(m).items() if "hooks" in k} for m in model.modules()),
            *(len(p._backward_hooks or ()) for p in model.parameters()),
        ],
        "random state": torch.get_rng_state().numpy().tobytes(),
        "random state of Python": random.getstate(),
        "random state of NumPy": repr(numpy.random.get_state(legacy=False)),
        "settings of torch": (
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
        ),
    }


def _plain(attributes: Mapping[str, object]) -> dict[str, str]:
    kinds = (bool, int, float, str, tuple, list, set, type(None))
    return {
        name: repr(value)
        for name, value in attributes.items()
        if isinstance(value, kinds) and "hooks" not in name and name != "training"
    }
