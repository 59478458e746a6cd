"""What is compared: models x strategies and schedules x lean x image sizes; no torch."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from freezekit.bench.selection import KINDS, plugin_of_specs
from freezekit.results.records import Plugin
from freezekit.spec.grammar import format_spec, parse
from freezekit.spec.timeline import Timeline
from freezekit.sweep.records import Candidate, SweepRow
from freezekit.training.recipes import first_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.bench.selection import Lean
    from freezekit.plugins.registry import Registry
    from freezekit.results.lean_text import LeanChoice

DEFAULT_SPECS = ("head-only", "first-n-stages:n=2")
DEFAULT_SCHEDULES = ("head-only then full at 20%",)
"""What is trained beside `full` where the user names nothing.

Few, as each costs pilots and several trainings; of all kinds, as nobody knows beforehand which one
suits: the cheapest that there is, one between, and one that ends as `full` does but moves the
pretrained weights only once the head is trained (Kumar et al. 2022). All models can take them.
"""

BASELINE = "full"


def choose_rows(
    models: Sequence[str],
    specs: Sequence[str],
    schedules: Sequence[str],
    registry: Registry,
    *,
    lean: Lean = "off",
    budget: str | None = None,
    lr: float | Literal["auto", "grid"] = "grid",
    image_sizes: Sequence[int | None] = (None,),
) -> tuple[SweepRow, ...]:
    """Return an empty row for each candidate, each once; the baseline of a model is first of its.

    Args:
        models: As the user named them.
        specs: Strategies. Where there are neither these nor schedules, `DEFAULT_SPECS` and
            `DEFAULT_SCHEDULES`.
        schedules: Their texts.
        registry: Where they are looked up.
        lean: "off": all stock. "on": all lean but the baseline. "both": each, and directly after it
            the same in lean.
        budget: Text such as "budget:2GiB" in place of lean alone.
        lr: Of all candidates.
        image_sizes: Pixels; None for the model's own. The baseline has the first one.

    Raises:
        SpecError: A text cannot be read, or names what is unknown.

    Example:
        >>> from freezekit import load_registry
        >>> rows = choose_rows(["timm:test_vit"], ["head-only"], [], load_registry(), lean="both")
        >>> [(row.label, row.is_baseline) for row in rows]
        [('full', True), ('head-only', False), ('head-only [lean]', False)]
        >>> rows = choose_rows(["a.py:f", "b.py:f"], ["head-only"], [], load_registry())
        >>> [row.label for row in rows][:3]
        ['a.py:f: full', 'a.py:f: head-only', 'b.py:f: full']
    """
    if not specs and not schedules:
        specs, schedules = DEFAULT_SPECS, DEFAULT_SCHEDULES
    plans: list[tuple[str, str | None]] = [
        (format_spec(registry.sums(text)), None) for text in specs
    ]
    plans += [_scheduled(text, registry) for text in schedules]
    kinds: list[LeanChoice] = [(budget or True) if kind else False for kind in KINDS[lean]]
    found: dict[Candidate, bool] = {}
    for model in models:
        found[Candidate(model, BASELINE, lr=lr, image_size=image_sizes[0])] = True
        for size in image_sizes:
            for strategy, schedule in plans:
                for kind in kinds:
                    found.setdefault(Candidate(model, strategy, schedule, kind, lr, size), False)
    names = _labels(list(found))
    return tuple(
        SweepRow(
            candidate,
            names[candidate],
            is_baseline=is_baseline,
            plugin=plugin_of(candidate, registry),
        )
        for candidate, is_baseline in found.items()
    )


def plugin_of(candidate: Candidate, registry: Registry) -> Plugin:
    """Return the plugin of a candidate's schedule or strategy; of strategies in turn, of all."""
    if candidate.schedule is None:
        return plugin_of_specs(candidate.strategy, registry)
    schedule = registry.schedule(candidate.schedule)
    if isinstance(schedule, Timeline):
        specs = dict.fromkeys(spec for _, spec in schedule.phases)
        return plugin_of_specs(" + ".join(specs), registry)
    record = registry.find_schedule(parse(candidate.schedule)[0].name).plugin
    return Plugin(record.name, record.distribution, record.version)


def baseline_of(row: SweepRow, rows: Sequence[SweepRow]) -> SweepRow:
    """Return the baseline of a row's model."""
    model = row.candidate.model
    return next(each for each in rows if each.is_baseline and each.candidate.model == model)


def _scheduled(text: str, registry: Registry) -> tuple[str, str]:
    """Return the spec of a schedule's first phase, and its canonical text."""
    return first_spec(text, registry), str(registry.schedule(text))


def _labels(candidates: Sequence[Candidate]) -> dict[Candidate, str]:
    """Return a name for each: with the image size and the model only where these differ."""
    sizes = {each.image_size for each in candidates}
    models = Counter(each.model for each in candidates)
    return {
        each: (f"{each.model}: " if len(models) > 1 else "")
        + each.label
        + (f", {_pixels(each.image_size)}" if len(sizes) > 1 else "")
        for each in candidates
    }


def _pixels(size: int | None) -> str:
    return "own size" if size is None else f"{size} px"
