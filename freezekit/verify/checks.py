"""The checks on a copy after its training."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from freezekit.errors import some
from freezekit.verify.isolation import same_bits
from freezekit.verify.learning_rates import ignored_multipliers
from freezekit.verify.records import Check, count

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from torch import nn

    from freezekit.verify.claims import Claims
    from freezekit.verify.training import TrainedCopy


def frozen_weights(
    original: nn.Module, trained: TrainedCopy, claims: Claims, stale: Container[str]
) -> Check:
    """Check that frozen parameters kept every bit and their flag, and got no gradient.

    Args:
        original: The model before training.
        trained: Its copy after training.
        claims: What is frozen.
        stale: Names of the parameters that had a gradient before training.
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
    counts = ", ".join(f"{len(names)} {what}" for what, names in faults.items() if names)
    detail = f"of {count(len(claims.frozen), 'frozen parameter')}: {counts}"
    return Check("frozen-weights", False, detail, offenders)


def fixed_statistics(
    original: nn.Module,
    trained: TrainedCopy,
    claims: Claims,
    make_used_copy: Callable[[], nn.Module],
    moved: tuple[str, ...] = (),
) -> Check:
    """Check that the buffers of held modules kept every bit, and their other statistics too.

    A buffer that the state dict leaves out may change if it is a cache: that is, if one forward in
    eval mode gives it the same value as the training did.

    Args:
        original: The model before training.
        trained: Its copy after training.
        claims: What is held in eval mode.
        make_used_copy: Returns a copy of the model after one forward in eval mode. Called only
            where such buffers changed.
        moved: Paths of statistics that are no buffers and changed.
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
        filled = dict(make_used_copy().named_buffers(remove_duplicate=False))
        same = {n for n in caches if n in filled and same_bits(filled[n], after.get(n))}
        offenders = tuple(n for n in offenders if n not in same)
    faults = []
    if offenders:
        buffers = count(len(before), "buffer")
        faults.append(f"{len(offenders)} of {buffers} of frozen modules changed")
    if gone:
        faults.append(f"{count(len(gone), 'frozen module')} no longer in the model")
    if moved:
        faults.append(
            f"{count(len(moved), 'tensor')} that {'is' if len(moved) == 1 else 'are'} neither "
            "parameter nor buffer changed: the model's own code does that in eval mode too; switch "
            "it off there, or leave that part trainable"
        )
    if faults:
        detail = "; ".join(faults)
    elif before:
        detail = f"{count(len(before), 'buffer')} of frozen modules kept every bit"
    else:
        detail = "no frozen module has buffers" if modules else "no module is held"
    offenders += gone + moved
    return Check("fixed-statistics", not offenders, detail, offenders)


def gradients(
    trained: TrainedCopy, claims: Claims, reached_when_thawed: Callable[[list[str]], set[str]]
) -> Check:
    """Check that each trainable parameter got a finite gradient.

    Args:
        trained: The copy.
        claims: What is trained.
        reached_when_thawed: From names of parameters to those that get a gradient when the whole
            model is trained. Called only where some parameters got none.
    """
    missing = [name for name in claims.trained if name not in trained.finite]
    reached = reached_when_thawed(missing) if missing else set()
    lost = [name for name in missing if name in reached]
    unreached = [name for name in missing if name not in reached]
    not_finite = [name for name, finite in trained.finite.items() if not finite]
    good = len(trained.finite) - len(not_finite)
    share = f"{good} of" if good < len(claims.trained) else "all"
    parts = [f"{share} {count(len(claims.trained), 'trainable parameter')} got a finite gradient"]
    if not_finite:
        parts.append(f"{len(not_finite)} got one that is not finite")
    if lost:
        parts.append(f"freezing took it from {len(lost)}: they get one when all is trained")
    if unreached:
        names = some(unreached)
        parts.append(f"{len(unreached)} get none from this loss, frozen or not: {names}")
    if trained.diverged:
        parts.append(f"the loss was not finite in step {trained.diverged}")
    passed = not not_finite and not lost and not trained.diverged
    return Check("gradients", passed, "; ".join(parts), (*lost, *not_finite))


def parameter_groups(
    trained: TrainedCopy, claims: Claims, is_users: bool, *, all_phases: bool = False
) -> Check:
    """Check that the optimizer holds each trainable parameter once and no frozen one.

    It may hold frozen ones where it holds all parameters: see `all_phases`. The learning rates must
    be in the ratios of the plan's multipliers.

    Args:
        trained: The copy with its optimizer.
        claims: What is trained and what is frozen.
        is_users: Whether the optimizer is the user's, not one that verification made.
        all_phases: Whether it holds what is frozen too, and leaves it: what is frozen has no
            gradient. Later phases may train it.
    """
    groups = trained.optimizer.param_groups
    held = Counter(id(parameter) for group in groups for parameter in group["params"])
    parameters = trained.parameters
    absent = [name for name in claims.trained if not held[id(parameters[name])]]
    several = [name for name in claims.trained if held[id(parameters[name])] > 1]
    frozen = [n for n in parameters if n in claims.frozen and held[id(parameters[n])]]
    frozen = [] if all_phases else frozen
    by_name = {name: parameters[name] for name in claims.trained}
    ignored = ignored_multipliers(trained.optimizer, by_name, claims.lr_scales)
    whose = "" if is_users else " made here"
    if not (absent or several or frozen or ignored):
        once = f"{count(len(claims.trained), 'parameter')} once each"
        detail = f"{once}, in {count(len(groups), 'group')}{whose}"
        return Check("parameter-groups", True, detail)
    if len(absent) == len(claims.trained) and not frozen:
        detail = "the optimizer holds no parameter of this model; was it made for another copy?"
        return Check("parameter-groups", False, detail, tuple(absent))
    parts = {"trainable in no group": absent, "in several": several, "frozen in a group": frozen}
    said = ", ".join(f"{len(names)} {what}" for what, names in parts.items() if names)
    if ignored:
        said += f"{'; ' if said else ''}{ignored}"
    offenders = dict.fromkeys((*absent, *several, *frozen, *(ignored.names if ignored else ())))
    return Check("parameter-groups", False, said, tuple(offenders))
