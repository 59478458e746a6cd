"""Whole forwards of a model, in which modules are compared in train and in eval mode.

No module is called twice within one forward: hooks of the user, and models that collect what their
hooks see, would notice. A later forward gives each call the inputs of an earlier one instead, so
that the outputs can be compared.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from freezekit.errors import ModelError
from freezekit.model.random_state import RandomState, cuda_devices
from freezekit.verify.calls import CallObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import nn

    from freezekit.verify.calls import Call, CallKey, Given


class ObservedForwards:
    """Whole forwards of a model in which the calls of some modules are observed.

    What is not held runs in train mode, also while held modules run in eval mode: so each forward
    takes the path of training. All forwards start with the same random state. Held modules have
    random numbers of their own, so that what they draw changes no path.
    """

    def __init__(
        self, model: nn.Module, held: Mapping[str, nn.Module], forward: Callable[[nn.Module], Any]
    ) -> None:
        """Take the random state of now as that of all forwards.

        Args:
            model: A copy that is not used otherwise.
            held: The modules that are compared, by name, with all modules inside them.
            forward: Calls the model.
        """
        self.model = model
        self.held = held
        self._forward = forward
        self._devices = cuda_devices(model)
        self._start = self._of_held = self.random_state()
        inside = {module for outer in held.values() for module in outer.modules()}
        self._outside = [module for module in model.modules() if module not in inside]

    def run(
        self,
        watched: Mapping[str, nn.Module] | None = None,
        *,
        in_eval: bool = False,
        gradients: bool = True,
        given: Given | None = None,
        keep_outputs: bool = False,
    ) -> dict[CallKey, Call]:
        """Run one forward and return the calls of the watched modules.

        Args:
            watched: Held modules and modules inside them. None: held modules as a whole, that is,
                without the calls within another held module.
            in_eval: Whether held modules run in eval mode and without gradients.
            gradients: Whether held modules in train mode record gradients, where training does.
            given: What the calls are given. Without it they get what arrives.
            keep_outputs: Whether the calls keep copies of the outputs.

        Raises:
            ModelError: The model refuses the input. Where calls are given their inputs, an error
                only ends the forward: no gradient passes through them, which may be why.
        """
        observer = CallObserver(self, watched, given, keep_outputs)
        with ExitStack() as stack:
            if given is not None:  # some kernels differ if a parameter requires a gradient
                stack.enter_context(_without_gradients(self.held.values()))
            stack.enter_context(self._modes(in_eval, gradients and not in_eval))
            stack.enter_context(observer.hooks())
            self._start.restore()
            try:
                self._forward(self.model)
            except ModelError:
                if given is None:
                    raise
        return observer.calls

    @contextmanager
    def held_call(self) -> Iterator[None]:
        """Run an outermost call of a held module in its own mode, with its own random numbers."""
        others, grad = self.random_state(), torch.is_grad_enabled()
        self._of_held.restore()
        self._set_flags(self._flags_of_held)
        if not self._gradients:
            torch.set_grad_enabled(False)
        try:
            yield
        finally:
            torch.set_grad_enabled(grad)
            self._set_flags(self._flags)
            self._of_held = self.random_state()
            others.restore()

    def random_state(self) -> RandomState:
        """Return the random state of now."""
        return RandomState.now(self._devices)

    @contextmanager
    def _modes(self, in_eval: bool, gradients: bool) -> Iterator[None]:
        """Prepare the modes. The model's own `train` is called: it may be what holds modules."""
        self._gradients = gradients
        self.model.train()
        self._flags = self._flags_of_held = [module.training for module in self._outside]
        if in_eval:
            self.model.eval()
            self._flags_of_held = [module.training for module in self._outside]
            self._set_flags(self._flags)
        with torch.enable_grad():
            yield
        self.model.train()

    def _set_flags(self, flags: list[bool]) -> None:
        for module, training in zip(self._outside, flags, strict=True):
            if module.training != training:  # to set it is slow
                module.training = training


@contextmanager
def _without_gradients(modules: Iterable[nn.Module]) -> Iterator[None]:
    parameters = {p for module in modules for p in module.parameters() if p.requires_grad}
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextmanager
def deterministic() -> Iterator[None]:
    """Make equal inputs give equal bits on a GPU too; hide warnings, which repetition repeats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cudnn = torch.backends.cudnn
        before = cudnn.benchmark, cudnn.deterministic
        cudnn.benchmark, cudnn.deterministic = False, True
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic = before
