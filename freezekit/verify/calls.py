"""The calls of some modules within one forward of a model."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._pytree import tree_map_only

from freezekit.verify.isolation import clone_tensors, digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from torch import nn

    from freezekit.model.random_state import RandomState
    from freezekit.verify.forwards import ObservedForwards

CallKey = tuple[str, int]
"""The name of a module, and the number of its call within one forward, from 0."""


@dataclass(frozen=True)
class Call:
    """One call of a module within a forward.

    Attributes:
        inputs: A copy of its arguments and keyword arguments.
        digests: Of the tensors of its output. None if the call raised an error.
        output: A copy of its output; None where it is not needed.
        drew: Whether random numbers were drawn meanwhile.
        arrived: Digests of the tensors that arrived, whatever the call was given. None for calls
            of held modules as a whole.
        caller: The watched module within which it was called; None if there is none.
    """

    inputs: tuple[tuple[Any, ...], dict[str, Any]]  # Any: whatever the module takes
    digests: tuple[bytes, ...] | None
    output: Any  # Any: whatever the module returns
    drew: bool
    arrived: tuple[bytes, ...] | None
    caller: str | None


@dataclass(frozen=True)
class Given:
    """What the calls of a forward are given, in place of what arrives.

    Attributes:
        calls: Earlier calls, whose inputs are given.
        outputs: Whether their outputs are given on as well. Then a module that contains others
            shows its own code alone: in its output, and in what arrives at the modules inside.
    """

    calls: Mapping[CallKey, Call]
    outputs: bool = False


class CallObserver:
    """The hooks of one forward, and what they found in `calls`."""

    def __init__(
        self,
        forwards: ObservedForwards,
        watched: Mapping[str, nn.Module] | None,
        given: Given | None,
        keep_outputs: bool,
    ) -> None:
        self.calls: dict[CallKey, Call] = {}
        self._forwards = forwards
        self._watched = watched
        self._given = given
        self._keep_outputs = keep_outputs
        self._numbers: Counter[str] = Counter()
        self._open: list[_OpenCall] = []

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Put a pair of hooks on each module; hooks of the user run between them."""
        held = self._forwards.held
        with ExitStack() as stack:
            for name, module in {**held, **(self._watched or {})}.items():
                enter, leave = partial(self._enter, name, name in held), self._leave
                before = module.register_forward_pre_hook(enter, prepend=True, with_kwargs=True)
                stack.callback(before.remove)
                stack.callback(module.register_forward_hook(leave, always_call=True).remove)
            yield

    def _enter(  # Any: whatever the module takes
        self, name: str, is_held: bool, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        call = _OpenCall(sys.exc_info()[1])
        is_outermost = is_held and not any(other.mode for other in self._open)
        callers = [other.key[0] for other in self._open if other.key]
        self._open.append(call)
        if is_outermost:
            call.mode = self._forwards.held_call()
            call.mode.__enter__()
        if not (is_outermost if self._watched is None else name in self._watched):
            return None
        call.key = (name, self._numbers[name])
        self._numbers[name] += 1
        call.before = self._forwards.random_state()
        if self._watched is not None:
            call.caller = callers[-1] if callers else None
            call.arrived = digest((args, kwargs))
        earlier = self._given.calls.get(call.key) if self._given else None
        call.inputs = earlier.inputs if earlier else _detached((args, kwargs))
        return _detached(call.inputs) if earlier else None

    def _leave(self, _: nn.Module, __: Any, output: Any) -> Any:  # Any: whatever the module returns
        call = self._open.pop()
        result = None
        if call.key is not None:
            failed = sys.exc_info()[1] is not call.handled
            self.calls[call.key] = Call(
                call.inputs,
                None if failed else digest(output),
                clone_tensors(output) if self._keep_outputs else None,
                self._forwards.random_state() != call.before,
                call.arrived,
                call.caller,
            )
            earlier = self._given.calls.get(call.key) if self._given else None
            if earlier and self._given and self._given.outputs and not failed:
                result = clone_tensors(earlier.output)
        if call.mode is not None:
            call.mode.__exit__(None, None, None)
        return result


@dataclass
class _OpenCall:
    """A call that has begun.

    Attributes:
        handled: The exception that was handled when it began. Another one at its end is its own.
        mode: What ends with it, if it is the outermost call of a held module.
        key: None if it is not watched.
        inputs, before, arrived, caller: As in `Call`; `before` is the random state.
    """

    handled: BaseException | None
    mode: AbstractContextManager[None] | None = None
    key: CallKey | None = None
    inputs: Any = None  # Any: whatever the module takes
    before: RandomState | None = None
    arrived: tuple[bytes, ...] | None = None
    caller: str | None = None


def _detached(nest: Any) -> Any:  # Any: whatever a module takes
    """Return a nest with copies of its tensors, none of which requires a gradient."""
    return tree_map_only(Tensor, lambda copied: copied.requires_grad_(False), clone_tensors(nest))
