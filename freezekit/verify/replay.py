"""Whether a frozen part gives the same output in train and in eval mode."""

from __future__ import annotations

import contextlib
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from freezekit.model.nested import tensors
from freezekit.model.out_of_memory import is_out_of_memory
from freezekit.verify.drift import differs_between
from freezekit.verify.isolation import cloned, random_state, same_bits
from freezekit.verify.records import Check, count, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import Tensor, nn

    from freezekit.verify.claims import Claims
    from freezekit.verify.training import Task


@dataclass(frozen=True)
class _Call:
    """One call of a module within a forward."""

    module: nn.Module
    args: tuple[Any, ...]  # Any: whatever the module takes
    kwargs: dict[str, Any]

    def replay(self) -> list[Tensor] | str:
        """Return what it gives on the same input, or the kind of error that it raises."""
        args, kwargs = cloned((self.args, self.kwargs))
        try:
            return [t.clone() for t in tensors(self.module(*args, **kwargs))]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return type(error).__name__


def same_in_train_and_eval(model: nn.Module, task: Task, claims: Claims) -> Check:
    """Replay each call of a held module with the model in train and in eval mode.

    Args:
        model: A copy that nobody needs any more.
        task: What the forward is run on.
        claims: What is held in eval mode; of nested modules the outermost called ones are replayed.
    """
    name = "same-in-train-and-eval"
    seen: set[str] = set()
    differing: set[str] = set()
    offenders: dict[str, _Call] = {}

    def visit(module: str, call: _Call) -> None:
        seen.add(module)
        if module not in differing and _differs(model, call):
            differing.add(module)
            offenders.update(_innermost(model, module, call))

    with torch.no_grad(), _steady(), _outermost(claims.wholly_held(model), visit):
        model.train()
        task.forward(model)
    if not seen:
        return Check(
            name, True, "no frozen module is held" if not claims.eval_modules else _UNCALLED
        )
    if not offenders:
        with _steady():
            apart = differs_between(model, task, claims)
        if apart is not None:
            said = (
                f"frozen modules are alike, but what happens between {apart[0]} and {apart[1]} "
                "differs in train and eval: functional dropout, or a layer without parameters?"
            )
            return Check(name, False, said, (apart[1],))
        return Check(
            name, True, f"{count(len(seen), 'frozen module')} gave the same bits in both modes"
        )
    what = [f"{len(differing)} of {count(len(seen), 'frozen module')} not the same in both modes"]
    if len(offenders) > len(differing):
        what.append(f"{len(offenders)} modules inside, each by itself")
    own = [inner for inner, call in offenders.items() if list(call.module.children())]
    if own:
        what.append(f"by its own forward (functional dropout?): {some(own)}")
    with torch.no_grad(), _steady():
        restless = [inner for inner, call in offenders.items() if _is_restless(model, call)]
    if restless:
        what.append(f"random in eval mode too: {some(restless)}")
    return Check(name, False, "; ".join(what), tuple(offenders))


_DRAWS = 20  # a stochastic depth of 0.1 with two images: missed once in 70

_UNCALLED = "no frozen module is called as a whole"


def _innermost(model: nn.Module, name: str, call: _Call) -> dict[str, _Call]:
    """Find the innermost modules that differ within a call that does.

    A module that still differs when those inside it are kept in eval mode is named with them.
    """
    found: dict[str, _Call] = {}

    def visit(inner: str, inner_call: _Call) -> None:
        if inner not in found and _differs(model, inner_call):
            found.update(_innermost(model, inner, inner_call))

    inside = {f"{name}.{inner}": m for inner, m in call.module.named_modules() if inner}
    with _outermost(inside, visit):
        model.train()
        call.replay()
    itself = _Call(call.module, *cloned((call.args, call.kwargs)))
    quiet = [inner_call.module for inner_call in found.values()]
    if not any(_is_restless(model, c) for c in found.values()) and _differs(model, call, quiet):
        found[name] = itself
    return found


def _differs(model: nn.Module, call: _Call, quiet: Iterable[nn.Module] = ()) -> bool:
    """Compare a call in train mode with the same in eval mode; the model is left in train mode.

    Args:
        model: The whole: whoever holds a module in eval mode may do so further out.
        call: What to compare.
        quiet: Modules that stay in eval mode, with all in them.
    """
    model.eval()
    still = call.replay()
    model.train()
    for module in (inner for outer in quiet for inner in outer.modules()):
        module.training = False
    live = _all_alike(call, still)
    model.train()
    return not live


def _all_alike(call: _Call, expected: list[Tensor] | str) -> bool:
    """Replay a call and compare; one that draws random numbers again, as it may drop nothing."""
    device = next((t.device for t in tensors((call.args, call.kwargs))), torch.device("cpu"))
    for _ in range(_DRAWS):
        before = random_state(device)
        if not _alike(expected, call.replay()):
            return False
        if random_state(device) == before:
            break
    return True


def _is_restless(model: nn.Module, call: _Call) -> bool:
    model.eval()
    steady = _all_alike(call, call.replay())
    model.train()
    return not steady


def _alike(one: list[Tensor] | str, other: list[Tensor] | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return len(one) == len(other) and all(map(same_bits, one, other))


@contextmanager
def _outermost(
    modules: Mapping[str, nn.Module], visit: Callable[[str, _Call], None]
) -> Iterator[None]:
    """Visit each call of one of these modules that is not made within another such call."""
    depth = 0

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            nonlocal depth
            depth += 1
            if depth == 1:  # what a visit calls lies deeper
                visit(name, _Call(module, args, kwargs))

        return hook

    def leave(*_: object) -> None:
        nonlocal depth
        depth -= 1

    with contextlib.ExitStack() as stack:
        for name, module in modules.items():
            entering = module.register_forward_pre_hook(enter(name), prepend=True, with_kwargs=True)
            stack.callback(entering.remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield


@contextmanager
def _steady() -> Iterator[None]:
    """Let equal inputs give equal bits on a GPU too, and say nothing twice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cudnn = torch.backends.cudnn
        before = cudnn.benchmark, cudnn.deterministic
        cudnn.benchmark, cudnn.deterministic = False, True
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic = before
