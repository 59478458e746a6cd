"""The check that undo restores everything."""

from __future__ import annotations

from dataclasses import dataclass
from operator import sub
from typing import TYPE_CHECKING

from freezekit.freezing.apply import undo
from freezekit.freezing.eval_hold import RECORD
from freezekit.verify.isolation import same_bits
from freezekit.verify.records import Check, count

if TYPE_CHECKING:
    from torch import nn

    from freezekit.freezing.eval_hold import Record

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class _ModuleState:
    """All of a module but its values."""

    type: str
    attributes: frozenset[str]
    hooks: tuple[int, ...]
    flags: tuple[tuple[str, bool], ...]
    training: bool
    from_freezekit: frozenset[str]

    @staticmethod
    def of(module: nn.Module) -> _ModuleState:
        attributes = vars(module)
        parameters = module.named_parameters(recurse=False)
        return _ModuleState(
            # the name, because torch.fx gives each copy a class of its own
            f"{type(module).__module__}.{type(module).__qualname__}",
            frozenset(attributes),
            tuple(len(attributes.get(kind, ())) for kind in _HOOKS),
            tuple((name, parameter.requires_grad) for name, parameter in parameters),
            module.training,
            frozenset(
                n for n, v in attributes.items() if type(v).__module__.startswith("freezekit.")
            ),
        )


def undo_restores(model: nn.Module, reference: nn.Module) -> Check:
    """Undo the freezing of a trained copy and of an untrained one, and compare the two.

    Args:
        model: The frozen copy that was trained.
        reference: Another frozen copy, which was not trained. Both stay undone.
    """
    name = "undo"
    record: Record = model.__dict__[RECORD]
    values = {n: p.detach().clone() for n, p in model.named_parameters() if n in record.plan.frozen}
    keys = list(model.state_dict())  # a forward may have added keys
    reference_keys = list(reference.state_dict())
    before = _module_states(reference)
    in_training = _module_states(model)
    undo(model)
    undo(reference)
    offenders: dict[str, None] = {}
    for net, expected_keys in ((model, keys), (reference, reference_keys)):
        if list(net.state_dict()) != expected_keys:
            odd = set(net.state_dict()) ^ set(expected_keys)
            offenders.update(dict.fromkeys(sorted(odd) or ["state_dict"]))
    for mode in (True, False):
        model.train(mode)
        reference.train(mode)
        expected, found = _module_states(reference), _module_states(model)
        for module in before.keys() | in_training.keys() | expected.keys() | found.keys():
            states = (s.get(module) for s in (before, in_training, expected, found))
            if not _same_change(*states):
                offenders[module or type(model).__name__] = None
    after = dict(model.named_parameters())
    offenders.update({n: None for n, v in values.items() if not same_bits(v, after.get(n))})
    offenders.update(_wrong_flags(model, record.trainable_before))
    if offenders:
        detail = f"{len(offenders)} differ from their state before the freezing"
        return Check(name, False, detail, tuple(offenders))
    return Check(name, True, f"{count(len(found), 'module')} as before the freezing")


def _module_states(model: nn.Module) -> dict[str, _ModuleState]:
    return {name: _ModuleState.of(module) for name, module in model.named_modules()}


def _same_change(
    before: _ModuleState | None,
    in_training: _ModuleState | None,
    expected: _ModuleState | None,
    found: _ModuleState | None,
) -> bool:
    """Tell whether undo changed a trained module as it changed the untrained one.

    The training itself may have changed the module: it gained attributes or hooks, came into being
    or went. That is not for undo to restore.

    Args:
        before: The untrained module, frozen.
        in_training: The trained module, frozen.
        expected: The untrained module, undone.
        found: The trained module, undone.
    """
    if (before is None) != (in_training is None):
        return found is None or not found.from_freezekit
    if before is None or in_training is None or expected is None or found is None:
        return False
    gained = in_training.attributes - before.attributes
    lost = before.attributes - in_training.attributes
    more_hooks = [now - then for now, then in zip(in_training.hooks, before.hooks, strict=True)]
    return (
        (expected.type == found.type or before.type != in_training.type)
        and expected.attributes - lost == found.attributes - gained
        and expected.hooks == tuple(map(sub, found.hooks, more_hooks))
        and expected.flags == found.flags
        and expected.training == found.training
        and not found.from_freezekit
    )


def _wrong_flags(model: nn.Module, before: dict[str, bool]) -> dict[str, None]:
    """Compare the flags with those recorded when the model was frozen."""
    now = model.named_parameters()
    return {name: None for name, p in now if p.requires_grad != before.get(name, p.requires_grad)}
