"""Which rows the schedules of a run have: one for each plan that no other row has; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from freezekit.bench.selection import KINDS, plugin_of_specs
from freezekit.errors import ScheduleError
from freezekit.results.records import PhaseOf, Plugin, Row, ScheduleCost, SchedulePhase
from freezekit.results.variant import Variant
from freezekit.spec.grammar import parse
from freezekit.spec.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from freezekit.bench.selection import Lean
    from freezekit.plugins.registry import Registry
    from freezekit.results.records import Result


def choose_schedules(
    texts: Sequence[str], registry: Registry, lean: Lean = "off"
) -> tuple[Variant, ...]:
    """Return the schedules to measure, each once, by their canonical texts.

    Args:
        texts: As the user wrote them.
        registry: Where schedules and strategies are looked up.
        lean: As in `choose`.

    Raises:
        SpecError: A text cannot be read, or names what is unknown.
        ScheduleError: A schedule observes the training, so that its phases are not known before.

    Example:
        >>> from freezekit import load_registry
        >>> chosen = choose_schedules(["head-only  then full at 1ep"], load_registry(), "both")
        >>> [variant.label for variant in chosen]
        ['head-only then full at 1ep', 'head-only then full at 1ep [lean]']
    """
    found = []
    for text in texts:
        schedule = registry.schedule(text)
        if schedule.observes:
            observed = " and ".join(sorted(schedule.observes))
            raise ScheduleError(
                f"the schedule {text!r} observes {observed} of a training, so that its phases are "
                "not known beforehand and cannot be measured: give a schedule with times, such as "
                "--schedule 'head-only then full at 50%', or measure each plan with -s"
            )
        found += [Variant(str(schedule), kind) for kind in KINDS[lean]]
    return tuple(dict.fromkeys(found))


def phase_name(text: str, begins: str) -> str:
    """Return what the row of a phase has in place of a spec; no spec has blanks without quotes."""
    return f"{text} @ {begins}"


def with_schedule(
    result: Result,
    asked: Variant,
    phases: Sequence[Mapping[str, Any]],  # Any: JSON
    totals: tuple[int, int],
    registry: Registry,
) -> Result:
    """Return a result with a schedule, and a row for each plan in it that no row has yet.

    Args:
        result: Its rows have the digests of their plans.
        asked: The schedule.
        phases: As `phases_of` returns them.
        totals: Epochs of the run, and steps of an epoch.
        registry: For the plugins.

    Example:
        >>> from freezekit import load_registry
        >>> from freezekit.results.records import Result, Row, Workload
        >>> rows = (Row("full", plan_digest="a"),)
        >>> phases = [{"begins": begins, "steps": 10, "spec": spec, "plan_digest": digest}
        ...           for begins, spec, digest in (("0ep", "head-only", "b"), ("1ep", "full", "a"))]
        >>> result = Result("0.1.0", Workload("timm:resnet18"), {}, rows)
        >>> asked = Variant("head-only then full at 1ep")
        >>> found = with_schedule(result, asked, phases, (2, 10), load_registry())
        >>> [row.label for row in found.rows]
        ['full', 'head-only then full at 1ep @ 0ep']
        >>> [phase.row for phase in found.schedules[0].phases]
        ['head-only then full at 1ep @ 0ep', 'full']
    """
    rows = list(result.rows)
    alike = [row for row in rows if row.variant == Variant(row.strategy, asked.lean)]
    known = {row.plan_digest: row.label for row in reversed(alike)}
    of_phases = []
    for index, phase in enumerate(phases, 1):
        digest, begins = phase["plan_digest"], phase["begins"]
        if digest not in known:
            row = Row(
                phase_name(asked.spec, begins),
                asked.lean,
                plugin=_plugin(asked.spec, phase["spec"], registry),
                plan_digest=digest,
                phase=PhaseOf(asked.spec, index, begins, phase["steps"]),
            )
            rows.append(row)
            known[digest] = row.label
        of_phases.append(SchedulePhase(begins, phase["steps"], phase["spec"], known[digest]))
    cost = ScheduleCost(asked.spec, asked.lean, *totals, tuple(of_phases))
    return replace(result, rows=tuple(rows), schedules=(*result.schedules, cost))


def _plugin(text: str, spec: str | None, registry: Registry) -> Plugin | None:
    """Return the plugin of a schedule; of strategies in turn, that of the phase's own."""
    if not isinstance(registry.schedule(text), Timeline):
        record = registry.find_schedule(parse(text)[0].name).plugin
        return Plugin(record.name, record.distribution, record.version)
    return None if spec is None else plugin_of_specs(spec, registry)
