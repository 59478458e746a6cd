"""Which modules are frozen as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freezekit.model.records import prefixes

if TYPE_CHECKING:
    from collections.abc import Set

    from torch import nn


def wholly_frozen(model: nn.Module, frozen: Set[str]) -> frozenset[str]:
    """Return the modules of which all parameters are frozen, with all that they contain.

    Args:
        model: The model, which is never among them.
        frozen: Names of the frozen parameters; a tied one under all its names.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.Dropout()), nn.Linear(1, 1))
        >>> sorted(wholly_frozen(net, {"0.0.weight", "0.0.bias"}))
        ['0', '0.0', '0.1']
    """
    trained = {name for name, _ in model.named_parameters(remove_duplicate=False)} - frozen
    live = {prefix for name in trained for prefix in prefixes(name)}
    live.add("")
    whole = {prefix for name in frozen for prefix in prefixes(name)} - live
    names_of: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names_of.setdefault(id(module), []).append(name)
    # A module that is shared with live ones is as live as they are.
    return frozenset(
        first
        for first, *others in names_of.values()
        if all(whole.intersection((*prefixes(name), name)) for name in (first, *others))
    )
