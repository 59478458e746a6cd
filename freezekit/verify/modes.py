"""The check that frozen modules give the same output in train and in eval mode."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from freezekit.errors import some
from freezekit.model.nested import tensors
from freezekit.verify.calls import Given
from freezekit.verify.drift import find_drift
from freezekit.verify.forwards import ObservedForwards, deterministic
from freezekit.verify.records import Check, count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor, nn

    from freezekit.verify.calls import Call, CallKey
    from freezekit.verify.claims import Claims
    from freezekit.verify.training import TrainingTask

NAME = "same-in-train-and-eval"

_MAX_FORWARDS = 20
"""Forwards in train mode if held modules draw random numbers, as they may drop nothing. Stochastic
depth of 0.1 on two images drops nothing in 81 % of them; 20 forwards miss it once in 70 checks."""

_UNCALLED = "no frozen module is called as a whole"


def same_in_train_and_eval(model: nn.Module, task: TrainingTask, claims: Claims) -> Check:
    """Compare each call of a held module in train mode, as in training, with that in eval mode.

    In eval mode no gradient is recorded either: some modules ask for that instead of their mode.
    What differs by that alone may differ by rounding, as some kernels do.

    Args:
        model: A copy that is not used afterwards.
        task: What the forward runs on.
        claims: What is held in eval mode. Of nested modules, the outermost called are compared.
    """
    with deterministic():
        forwards = ObservedForwards(model, claims.wholly_held(model), task.forward)
        arrived = forwards.run()
        if not arrived:
            detail = _UNCALLED if claims.eval_modules else "no frozen module is held"
            return Check(NAME, True, detail)
        given = Given(arrived)
        in_eval = forwards.run(in_eval=True, given=given)
        differing = _differing(forwards, None, given, in_eval)
        if differing:  # the mode, or only whether gradients are recorded?
            in_eval = forwards.run(in_eval=True, given=given)  # statistics have moved meanwhile
            by_mode = _differing(forwards, None, given, in_eval, gradients=False)
            others = {name: m for name, m in differing.items() if name not in by_mode}
            by_gradients = _far_apart(forwards, given, others)
            if by_mode or by_gradients:
                with _modules_called_alike():
                    return _faults(forwards, arrived, by_mode, by_gradients)
        drift = find_drift(model, task, claims)
    if drift is not None:
        before, after = drift
        detail = (
            "each frozen module is the same in both modes, but what runs between "
            f"{before} and {after} is not: functional dropout, or a layer without parameters?"
        )
        return Check(NAME, False, detail, (after,))
    seen = _names(in_eval)
    detail = f"{count(len(seen), 'frozen module')} gave the same bits in both modes"
    if missed := [name for name in _names(arrived) if name not in seen]:
        detail += f"; not compared, as the forward ended before them: {some(missed)}"
    return Check(NAME, True, detail)


def _faults(
    forwards: ObservedForwards,
    arrived: Mapping[CallKey, Call],
    by_mode: Mapping[str, nn.Module],
    by_gradients: Mapping[str, nn.Module],
) -> Check:
    """Find the innermost modules that differ, and say how.

    Each module inside is given the inputs that it has in eval mode, and its outputs in eval mode
    are given on. So a module that contains others differs only by its own code.
    """
    differing = {**by_mode, **by_gradients}
    inside = _inside(differing)
    in_eval = forwards.run(inside, in_eval=True, given=Given(arrived), keep_outputs=True)
    given = Given(in_eval, outputs=True)
    again = forwards.run(inside, in_eval=True, given=given)
    found = [
        _offenders(forwards, outer, inside, given, gradients=outer is by_gradients)
        for outer in (by_mode, by_gradients)
    ]
    offenders = {**found[0], **found[1]}
    changing = [n for n in _unlike(again, in_eval) if n in offenders]
    drawing = {name for (name, _), call in again.items() if call.drew}

    outermost = count(len(_names(arrived)), "frozen module")
    parts = [f"{len(differing)} of {outermost} not the same in both modes"]
    if len(offenders) > len(differing):
        parts.append(f"{len(offenders)} modules inside, each by itself")
    if own := [name for name in offenders if list(inside[name].children())]:
        parts.append(f"by its own forward (functional dropout?): {some(own)}")
    if found[1]:
        parts.append(f"by whether gradients are recorded: {some(list(found[1]))}")
    if random := [name for name in changing if name in drawing]:
        parts.append(f"random in eval mode too: {some(random)}")
    if moving := [name for name in changing if name not in drawing]:
        parts.append(f"not the same in two calls with one input: {some(moving)}")
    return Check(NAME, False, "; ".join(parts), tuple(offenders))


def _offenders(
    forwards: ObservedForwards,
    outer: Mapping[str, nn.Module],
    inside: Mapping[str, nn.Module],
    given: Given,
    *,
    gradients: bool,
) -> Mapping[str, nn.Module]:
    """Return the innermost modules that differ in these, or these themselves."""
    if not outer:
        return {}
    in_eval = forwards.run(inside, in_eval=True, given=given)  # statistics may have moved
    found = _differing(forwards, inside, given, in_eval, gradients=gradients)
    within = _inside(outer)
    return {name: module for name, module in found.items() if name in within} or outer


def _differing(
    forwards: ObservedForwards,
    watched: Mapping[str, nn.Module] | None,
    given: Given,
    in_eval: Mapping[CallKey, Call],
    *,
    gradients: bool = True,
) -> dict[str, nn.Module]:
    """Return the modules whose output in train mode is not that in eval mode, in order of calls.

    The forward is repeated while a module draws random numbers and no difference is found.
    """
    modules = forwards.held if watched is None else watched
    found: set[str] = set()
    for _ in range(_MAX_FORWARDS):
        in_train = forwards.run(watched, given=given, gradients=gradients)
        found.update(_unlike(in_train, in_eval))
        if not any(call.drew and name not in found for (name, _), call in in_train.items()):
            break
    return {name: modules[name] for name in _names(in_eval) if name in found}


@contextmanager
def _modules_called_alike() -> Iterator[None]:
    """Let PyTorch's attention and encoder layers call the modules inside them in eval mode too."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _far_apart(
    forwards: ObservedForwards, given: Given, suspects: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """Return the modules whose output differs by more than rounding if gradients are recorded.

    Some kernels, such as that of an LSTM on the CPU, are others where no gradient is recorded.
    """
    if not suspects:
        return {}
    in_eval = forwards.run(in_eval=True, given=given, keep_outputs=True)
    in_train = forwards.run(given=given, keep_outputs=True)
    far = {
        key[0]
        for key, call in in_train.items()
        if key[0] in suspects and key in in_eval and not _close(call, in_eval[key])
    }
    return {name: module for name, module in suspects.items() if name in far}


def _close(one: Call, other: Call) -> bool:
    if one.digests == other.digests:
        return True
    pairs = list(zip(tensors(one.output), tensors(other.output), strict=False))
    if one.digests is None or other.digests is None or len(one.digests) != len(other.digests):
        return False
    return all(_is_rounding(a.detach(), b.detach()) for a, b in pairs)


def _is_rounding(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape or one.layout != torch.strided:
        return False
    if not (one.is_floating_point() or one.is_complex()):
        return torch.equal(one, other)
    precision = torch.finfo(one.dtype).eps ** 0.5  # half of the digits
    a, b = (tensor.to(torch.promote_types(tensor.dtype, torch.float)) for tensor in (one, other))
    return bool((a - b).norm() <= precision * b.norm())


def _inside(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return these modules and all inside them, by name."""
    return {
        f"{outer}.{name}" if name and outer else outer or name: module
        for outer, held in modules.items()
        for name, module in held.named_modules()
    }


def _unlike(some_calls: Mapping[CallKey, Call], others: Mapping[CallKey, Call]) -> list[str]:
    """Return the names of the modules whose outputs, or what they give on inside, differ."""
    found = []
    for key, call in some_calls.items():
        other = others.get(key)
        if other is None:
            continue
        if call.digests != other.digests:
            found.append(key[0])
        if call.arrived != other.arrived and call.caller is not None:
            found.append(call.caller)
    return found


def _names(calls: Iterable[CallKey]) -> list[str]:
    return list(dict.fromkeys(name for name, _ in calls))
