"""Calls of the modules of a model within one forward, intercepted for a while."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from freezekit.budget.segments import FOR_ONE_RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# Any in this file: a module may take and return anything.


class Call(NamedTuple):
    """One call of a module in a forward.

    Attributes:
        module: The name of the module.
        number: How many calls of it came before in the same forward.
    """

    module: str
    number: int

    def __str__(self) -> str:
        return f"{self.module} (call {self.number + 1})" if self.number else self.module


@contextmanager
def intercepted(
    modules: Mapping[str, nn.Module],
    on_call: Callable[[Call, Callable[[], Any], Any], Any],
) -> Iterator[None]:
    """Let each call of modules go through a function for a while.

    The `forward` of the instances is replaced, so that hooks of the modules run as always, and what
    `on_call` returns is what the module returns.

    Args:
        modules: By their names.
        on_call: Takes the call, a function that does what the module does, and its arguments.
    """
    counts: Counter[str] = Counter()
    before = {name: vars(module).get("forward") for name, module in modules.items()}

    def replace(name: str, module: nn.Module) -> None:
        inner = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            call = Call(name, counts[name])
            counts[name] += 1
            return on_call(call, lambda: inner(*args, **kwargs), (args, kwargs))

        vars(forward)[FOR_ONE_RUN] = counts
        vars(module)["forward"] = forward

    try:
        for name, module in modules.items():
            replace(name, module)
        yield
    finally:
        for name, module in modules.items():
            if before[name] is None:
                vars(module).pop("forward", None)
            else:
                vars(module)["forward"] = before[name]


class _AllSeen(BaseException):
    """Leaves a forward early. No `except Exception` of a model catches it."""


def outputs_of(model: nn.Module, run: Callable[[], Any], calls: Iterable[Call]) -> dict[Call, Any]:
    """Return what calls return, as copies; the forward ends when all were seen.

    Args:
        model: The model.
        run: Calls it.
        calls: Of its modules.

    Raises:
        KeyError: The forward ended without one of the calls.
    """
    wanted = set(calls)
    found: dict[Call, Any] = {}

    def keep(call: Call, inner: Callable[[], Any], _: Any) -> Any:
        out = inner()
        if call in wanted:
            found[call] = copied(out)  # the model may write into it afterwards
            if len(found) == len(wanted):
                raise _AllSeen
        return out

    names = {call.module for call in wanted}
    modules = {name: module for name, module in model.named_modules() if name in names}
    with intercepted(modules, keep):
        try:
            run()
        except _AllSeen:
            return found
    missing = wanted - found.keys()
    raise KeyError(str(min(missing)))


def copied(nest: Any) -> Any:
    """Return a nest with a copy of each tensor, of the same strides."""
    return pytree.tree_map_only(Tensor, lambda t: t.detach().clone(), nest)
