"""`FreezePlan`: the decision of a strategy, as data."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from freezekit.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class FreezePlan:
    """The decision of a strategy, as data.

    A parameter that a plan does not freeze is trained, unless it arrives frozen: `freezekit.plan`
    and `freeze_` add what arrives with `requires_grad=False`, if `thaw=True` is not given.
    Plans compare and hash by `frozen`, `eval_modules` and `lr_scales`. `&` composes two plans. Save
    a plan as JSON: a pickle names the module of the class, and that module may move.

    Attributes:
        frozen: Dotted names of the parameters to freeze.
        eval_modules: Dotted names of the modules to hold in eval mode (running statistics fixed,
            dropout and drop path off). None stands for what `Backbone.inside` finds: the modules
            whose parameters are all frozen, the modules inside them, and the modules without
            parameters between layers of a frozen prefix. `freezekit.plan` returns their names.
        lr_scales: Learning-rate multipliers of trainable parameters. The default is 1.
        notes: Facts for the user, such as the number of names that matched.
        warnings: Probable mistakes of the user, shown as `FreezekitWarning`.

    Raises:
        PlanError: A multiplier is not a finite number above zero.

    Example:
        >>> stem = FreezePlan(frozen={"conv1.weight"}, lr_scales={"fc.weight": 0.5})
        >>> both = stem & FreezePlan(frozen={"bn1.weight"}, lr_scales={"fc.weight": 0.5})
        >>> sorted(both.frozen), dict(both.lr_scales)
        (['bn1.weight', 'conv1.weight'], {'fc.weight': 0.25})
        >>> FreezePlan.from_json(both.to_json()) == both
        True
    """

    frozen: frozenset[str]
    eval_modules: frozenset[str] | None = None
    lr_scales: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=(), compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def __init__(
        self,
        frozen: Iterable[str] = (),
        eval_modules: Iterable[str] | None = None,
        lr_scales: Mapping[str, float] | None = None,
        notes: Iterable[str] = (),
        warnings: Iterable[str] = (),
    ) -> None:
        for what, names in (("frozen", frozen), ("eval_modules", eval_modules)):
            if isinstance(names, str):
                raise PlanError(f"a plan's {what!s} is a set of names, not the string {names!r}")
        put = object.__setattr__  # the usual way to fill a frozen dataclass
        put(self, "frozen", frozenset(_texts("frozen", frozen)))
        held = None if eval_modules is None else frozenset(_texts("eval_modules", eval_modules))
        put(self, "eval_modules", held)
        put(self, "lr_scales", MappingProxyType(_scales(lr_scales or {})))
        put(self, "notes", _texts("notes", notes))
        put(self, "warnings", _texts("warnings", warnings))

    def __hash__(self) -> int:
        return hash((self.frozen, self.eval_modules, tuple(self.lr_scales.items())))

    def __reduce__(self) -> tuple[Any, ...]:  # Any: the protocol of pickle
        return (
            FreezePlan,
            (self.frozen, self.eval_modules, dict(self.lr_scales), self.notes, self.warnings),
        )

    def __and__(self, other: FreezePlan) -> FreezePlan:
        """Compose: unite `frozen` and `eval_modules`, multiply the multipliers, join the messages.

        Raises:
            PlanError: `eval_modules` is None in one plan and given in the other.
        """
        if not isinstance(other, FreezePlan):
            return NotImplemented
        if (self.eval_modules is None) != (other.eval_modules is None):
            raise PlanError(
                "cannot compose a plan with eval_modules and a plan without (None); pass both "
                "strategies as one spec ('a + b'), or give eval_modules in both plans"
            )
        held = None
        if self.eval_modules is not None and other.eval_modules is not None:
            held = self.eval_modules | other.eval_modules
        frozen = self.frozen | other.frozen
        names = self.lr_scales.keys() | other.lr_scales.keys()
        scales = {n: self.lr_scales.get(n, 1.0) * other.lr_scales.get(n, 1.0) for n in names}
        return FreezePlan(
            frozen,
            held,
            {n: s for n, s in scales.items() if n not in frozen},
            self.notes + other.notes,
            self.warnings + other.warnings,
        )

    def to_json(self) -> str:
        """Return the plan as one JSON object with sorted names."""
        return json.dumps(
            {
                "frozen": sorted(self.frozen),
                "eval_modules": None if self.eval_modules is None else sorted(self.eval_modules),
                "lr_scales": dict(self.lr_scales),
                "notes": list(self.notes),
                "warnings": list(self.warnings),
            }
        )

    @staticmethod
    def from_json(text: str) -> FreezePlan:
        """Return the plan that `to_json` wrote.

        Raises:
            PlanError: The text is not a plan in JSON.
        """
        try:
            data = json.loads(text)
            if "fixed" in data:  # the name of eval_modules in older files
                data["eval_modules"] = data.pop("fixed")
            return FreezePlan(**data)
        except (ValueError, TypeError) as error:
            raise PlanError(f"not a plan in JSON: {error}") from None


def with_warnings(plan: FreezePlan, more: Iterable[str]) -> FreezePlan:
    """Return a plan with more warnings, each once.

    Example:
        >>> with_warnings(FreezePlan(warnings=["a"]), ["b", "a"]).warnings
        ('a', 'b')
    """
    told = dict.fromkeys((*plan.warnings, *more))
    return FreezePlan(plan.frozen, plan.eval_modules, plan.lr_scales, plan.notes, told)


def _texts(field: str, values: Iterable[str]) -> tuple[str, ...]:
    found = tuple(values)
    wrong = [value for value in found if not isinstance(value, str)]
    if wrong:
        raise PlanError(f"a plan's {field} holds {wrong[0]!r}, expected text")
    return found


def _scales(given: Mapping[str, float]) -> dict[str, float]:
    scales = {}
    for name in sorted(_texts("lr_scales", given)):
        try:
            scales[name] = float(given[name])
        except (TypeError, ValueError, OverflowError):
            scales[name] = math.nan
        if not (math.isfinite(scales[name]) and scales[name] > 0):
            raise PlanError(
                f"the learning-rate multiplier of {name!r} is {given[name]!r}, expected a finite "
                "number above 0; to keep a parameter fixed, freeze it"
            )
    return scales
