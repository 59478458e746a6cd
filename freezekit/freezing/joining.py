"""Plans joined: `|` unites what is trained; `+` of two that say what is trained is warned of."""

from __future__ import annotations

from functools import reduce
from itertools import chain
from typing import TYPE_CHECKING

from freezekit.freezing.plan import FreezePlan
from freezekit.spec.grammar import format_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.backbone.view import Backbone
    from freezekit.spec.strategy import Strategy


def unite(plans: Sequence[FreezePlan]) -> FreezePlan:
    """Return the plan that trains what any of the plans trains.

    A parameter is frozen, and a module is held in eval mode, if all plans say so. Of several
    learning-rate multipliers, the largest counts; a plan that freezes a parameter gives none.

    Args:
        plans: One or more plans with names for `eval_modules`.

    Example:
        >>> slow = FreezePlan({"a"}, {"x"}, {"b": 0.1})
        >>> united = unite([slow, FreezePlan({"a", "b"}, {"x", "y"}, {"c": 0.5})])
        >>> sorted(united.frozen), sorted(united.eval_modules), dict(united.lr_scales)
        (['a'], ['x'], {'b': 0.1, 'c': 1.0})
    """
    names = sorted({name for plan in plans for name in plan.lr_scales})
    scales = {}
    for name in names:
        given = [plan.lr_scales.get(name, 1.0) for plan in plans if name not in plan.frozen]
        scales[name] = max(given, default=1.0)
    return FreezePlan(
        frozenset.intersection(*(plan.frozen for plan in plans)),
        frozenset.intersection(*(plan.eval_modules or frozenset() for plan in plans)),
        scales,
        dict.fromkeys(chain.from_iterable(plan.notes for plan in plans)),
        dict.fromkeys(chain.from_iterable(plan.warnings for plan in plans)),
    )


def intersection_warning(
    backbone: Backbone, strategies: Sequence[Strategy], plans: Sequence[FreezePlan]
) -> tuple[str, ...]:
    """Return a warning if `+` joins strategies of which each says what alone is trained.

    There is none if they train the same, because then both readings agree.

    Args:
        backbone: The model.
        strategies: The strategies that `+` joins.
        plans: Their plans, in the same order.

    Example:
        >>> from freezekit import Backbone, load_backbone
        >>> from freezekit_strategies import BiasOnly, NormOnly
        >>> view = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> both = (NormOnly(), BiasOnly())
        >>> (text,) = intersection_warning(view, both, [s.plan(view) for s in both])
        >>> text.partition(";")[0]
        "'norm-only + bias-only' trains only what each of them trains, 22 of 62 parameters"
    """
    pairs = [(s, p) for s, p in zip(strategies, plans, strict=True) if s.trains_only]
    trained = [frozenset(backbone.parameters.keys() - plan.frozen) for _, plan in pairs]
    if len(set(trained)) < 2:
        return ()
    texts = [format_named(strategy) for strategy, _ in pairs]
    both = reduce(frozenset.intersection, trained)
    any_of = reduce(frozenset.union, trained)
    return (
        f"'{' + '.join(texts)}' trains only what each of them trains, {len(both)} of "
        f"{len(backbone.parameters)} parameters; to train what any of them trains, "
        f"{len(any_of)} parameters, write '{' | '.join(texts)}'",
    )
