"""A side of a comparison as a sum: how much of each figure, and a number."""

from __future__ import annotations

from freezekit.gate.tree import Constant, Figure, Node, Operation

Sum = dict[Figure | None, float]
"""The factor of each figure; that of None is the number."""


def as_sum(node: Node) -> Sum | None:
    """Return a part of a gate as a sum; None if it is none, such as a product of two figures.

    Example:
        >>> tree = Operation("-", (Figure("accuracy", "full"), Constant(0.01, None)))
        >>> as_sum(tree)
        {Figure(name='accuracy', of='full'): 1.0, None: -0.01}
    """
    match node:
        case Constant(float(value)):
            return {None: value}
        case Figure():
            return {node: 1.0}
        case Operation("-", (part,)):
            return _scaled(as_sum(part), -1.0)
        case Operation("+" | "-" as sign, (left, right)):
            return added(as_sum(left), as_sum(right), -1.0 if sign == "-" else 1.0)
        case Operation("*", (left, right)):
            first, second = as_sum(left), as_sum(right)
            for one, other in ((first, second), (second, first)):
                if other is not None and set(other) == {None}:
                    return _scaled(one, other[None])
        case Operation("/", (left, right)):
            divisor = as_sum(right)
            if divisor is not None and set(divisor) == {None} and divisor[None]:
                return _scaled(as_sum(left), 1 / divisor[None])
    return None


def added(left: Sum | None, right: Sum | None, factor: float = 1.0) -> Sum | None:
    """Return the left sum plus the right one times a factor."""
    if left is None or right is None:
        return None
    whole = dict(left)
    for figure, value in right.items():
        whole[figure] = whole.get(figure, 0.0) + factor * value
    return whole


def _scaled(found: Sum | None, factor: float) -> Sum | None:
    return None if found is None else {figure: factor * value for figure, value in found.items()}
