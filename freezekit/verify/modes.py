"""The check that frozen modules give the same output in train and in eval mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.errors import some
from freezekit.verify.calls import Given
from freezekit.verify.drift import find_drift
from freezekit.verify.forwards import ObservedForwards, deterministic
from freezekit.verify.records import Check, count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

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
        in_eval = forwards.run(in_eval=True, given=Given(arrived))
        differing = _differing(forwards, None, Given(arrived), in_eval)
        if differing:
            return _faults(forwards, arrived, differing)
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
    forwards: ObservedForwards, arrived: Mapping[CallKey, Call], differing: Mapping[str, nn.Module]
) -> Check:
    """Find the innermost modules that differ, and say how.

    Each module inside is given the inputs that it has in eval mode, and its outputs in eval mode
    are given on. So a module that contains others differs only by its own code.
    """
    inside = {
        f"{outer}.{name}" if name and outer else outer or name: module
        for outer, held in differing.items()
        for name, module in held.named_modules()
    }
    in_eval = forwards.run(inside, in_eval=True, given=Given(arrived), keep_outputs=True)
    given = Given(in_eval, outputs=True)
    offenders = _differing(forwards, inside, given, in_eval) or differing
    again = forwards.run(inside, in_eval=True, given=given)
    changing = [n for n in _unlike(again, in_eval) if n in offenders]
    drawing = {name for (name, _), call in again.items() if call.drew}

    outermost = count(len(_names(arrived)), "frozen module")
    parts = [f"{len(differing)} of {outermost} not the same in both modes"]
    if len(offenders) > len(differing):
        parts.append(f"{len(offenders)} modules inside, each by itself")
    if own := [name for name in offenders if list(inside[name].children())]:
        parts.append(f"by its own forward (functional dropout?): {some(own)}")
    if found := [name for name in changing if name in drawing]:
        parts.append(f"random in eval mode too: {some(found)}")
    if found := [name for name in changing if name not in drawing]:
        parts.append(f"not the same in two calls with one input: {some(found)}")
    return Check(NAME, False, "; ".join(parts), tuple(offenders))


def _differing(
    forwards: ObservedForwards,
    watched: Mapping[str, nn.Module] | None,
    given: Given,
    in_eval: Mapping[CallKey, Call],
) -> dict[str, nn.Module]:
    """Return the modules whose output in train mode is not that in eval mode, in order of calls.

    The forward is repeated while a module draws random numbers and no difference is found.
    """
    modules = forwards.held if watched is None else watched
    found: set[str] = set()
    for _ in range(_MAX_FORWARDS):
        in_train = forwards.run(watched, given=given)
        found.update(_unlike(in_train, in_eval))
        if not any(call.drew and name not in found for (name, _), call in in_train.items()):
            break
    return {name: modules[name] for name in _names(in_eval) if name in found}


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
