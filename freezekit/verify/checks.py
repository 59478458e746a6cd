"""The checks that look at a copy after it was trained."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from freezekit.verify.isolation import same_bits
from freezekit.verify.records import Check, count, some

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from torch import nn

    from freezekit.verify.claims import Claims
    from freezekit.verify.training import Trained


def frozen_weights(
    original: nn.Module, trained: Trained, claims: Claims, stale: Container[str]
) -> Check:
    """Check that frozen parameters kept every bit, their flag, and got no gradient.

    Args:
        original: The model as it was.
        trained: Its copy.
        claims: What is frozen.
        stale: Names of the parameters that had a gradient from before.
    """
    before = dict(original.named_parameters())
    after = dict(trained.model.named_parameters())
    faults: dict[str, list[str]] = {"changed": [], "with requires_grad": [], "given a gradient": []}
    gone = sorted(claims.frozen - before.keys())
    if gone:
        faults["no longer in the model"] = gone
    for name in (n for n in before if n in claims.frozen):
        now = after.get(name)
        if not same_bits(before[name], now):
            faults["changed"].append(name)
        if now is not None and now.requires_grad:
            faults["with requires_grad"].append(name)
        if now is not None and now.grad is not None and name not in stale:
            faults["given a gradient"].append(name)
    offenders = tuple(dict.fromkeys(name for names in faults.values() for name in names))
    steps = count(len(trained.losses), "step")
    if not offenders:
        detail = f"{count(len(claims.frozen), 'frozen parameter')} kept every bit in {steps}"
        return Check("frozen-weights", True, detail if claims.frozen else "nothing is frozen")
    said = ", ".join(f"{len(names)} {what}" for what, names in faults.items() if names)
    detail = f"of {count(len(claims.frozen), 'frozen parameter')}: {said}"
    return Check("frozen-weights", False, detail, offenders)


def fixed_statistics(
    original: nn.Module, trained: Trained, claims: Claims, used: Callable[[], nn.Module]
) -> Check:
    """Check that the buffers of held modules kept every bit.

    Args:
        original: The model as it was.
        trained: Its copy.
        claims: What is held in eval mode.
        used: Makes a copy after one forward in eval mode, which fills caches for the size of its
            input: buffers that the state dict leaves out may be as there. Asked only where some
            changed.
    """
    after = dict(trained.model.named_buffers(remove_duplicate=False))
    modules = {n: m for n, m in original.named_modules() if n in claims.eval_modules}
    gone = tuple(sorted(claims.eval_modules - modules.keys()))
    before = {
        f"{name}.{buffer}": tensor
        for name, module in modules.items()
        for buffer, tensor in module.named_buffers(recurse=False)
    }
    offenders = tuple(n for n, tensor in before.items() if not same_bits(tensor, after.get(n)))
    if caches := set(offenders) - original.state_dict().keys():
        filled = dict(used().named_buffers(remove_duplicate=False))
        same = {n for n in caches if n in filled and same_bits(filled[n], after.get(n))}
        offenders = tuple(n for n in offenders if n not in same)
    said = []
    if offenders:
        said.append(f"{len(offenders)} of {count(len(before), 'buffer')} of frozen modules changed")
    if gone:
        said.append(f"{count(len(gone), 'frozen module')} no longer in the model")
    if said:
        detail = "; ".join(said)
    elif before:
        detail = f"{count(len(before), 'buffer')} of frozen modules kept every bit"
    else:
        detail = "no frozen module has buffers" if modules else "no module is held"
    return Check("fixed-statistics", not offenders + gone, detail, offenders + gone)


def gradients(trained: Trained, claims: Claims, thawed: Callable[[list[str]], set[str]]) -> Check:
    """Check that each trainable parameter got a finite gradient.

    Args:
        trained: The copy.
        claims: What is trained.
        thawed: Which of some parameters get a gradient when the whole model is trained; asked only
            where some have none.
    """
    missing = [name for name in claims.trained if name not in trained.finite]
    reached = thawed(missing) if missing else set()
    lost = [name for name in missing if name in reached]
    never = [name for name in missing if name not in reached]
    wild = [name for name, finite in trained.finite.items() if not finite]
    good = len(trained.finite) - len(wild)
    share = f"{good} of" if good < len(claims.trained) else "all"
    said = [f"{share} {count(len(claims.trained), 'trainable parameter')} got a finite one"]
    if wild:
        said.append(f"that of {len(wild)} is not finite")
    if lost:
        said.append(f"{len(lost)} lost theirs by the freezing: they have one when all is trained")
    if never:
        said.append(f"{len(never)} get none from this loss, frozen or not: {some(never)}")
    if trained.diverged:
        said.append(f"the loss was not finite in step {trained.diverged}")
    passed = not wild and not lost and not trained.diverged
    return Check("gradients", passed, "; ".join(said), (*lost, *wild))


def parameter_groups(trained: Trained, claims: Claims, given: bool) -> Check:
    """Check that the optimizer holds each trainable parameter once, and no frozen one.

    Args:
        trained: The copy with its optimizer.
        claims: What is trained and what is frozen.
        given: Whether the optimizer is the user's own.
    """
    groups = trained.optimizer.param_groups
    held = Counter(id(parameter) for group in groups for parameter in group["params"])
    parameters = trained.parameters
    absent = [name for name in claims.trained if not held[id(parameters[name])]]
    several = [name for name in claims.trained if held[id(parameters[name])] > 1]
    frozen = [n for n in parameters if n in claims.frozen and held[id(parameters[n])]]
    whose = "" if given else " made here"
    if not (absent or several or frozen):
        once = f"{count(len(claims.trained), 'parameter')} once each"
        detail = f"{once}, in {count(len(groups), 'group')}{whose}"
        return Check("parameter-groups", True, detail)
    if len(absent) == len(claims.trained) and not frozen:
        said = "the optimizer holds no parameter of this model; was it made for another copy?"
        return Check("parameter-groups", False, said, tuple(absent))
    parts = {"trainable in no group": absent, "in several": several, "frozen in a group": frozen}
    said = ", ".join(f"{len(names)} {what}" for what, names in parts.items() if names)
    return Check("parameter-groups", False, said, (*absent, *several, *frozen))
