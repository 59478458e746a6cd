"""Which rows a run has: the strategies that the user named, stock or lean, eager or compiled."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

from freezekit.results.records import Plugin, Row
from freezekit.results.variant import BASELINE, Variant
from freezekit.spec.grammar import format_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.plugins.registry import Registry

Lean = Literal["off", "on", "both"]  # of the cache and of torch.compile, too
LEAN_CHOICES: tuple[Lean, ...] = get_args(Lean)
KINDS: dict[Lean, tuple[bool, ...]] = {"off": (False,), "on": (True,), "both": (False, True)}
"""Whether rows of a choice are of the kind."""


def choose(
    texts: Sequence[str],
    registry: Registry,
    lean: Lean = "off",
    cache: Lean = "off",
    compiled: Lean = "off",
) -> tuple[Variant, ...]:
    """Return what to measure, each once. The baseline is first: `full`, always stock.

    Args:
        texts: Specs as the user wrote them.
        registry: Where strategies are looked up.
        lean: "off": all stock. "on": all lean, `full` too if the user named it. "both": all in
            stock, `full` too, and directly after each the same in lean.
        cache: "off": all on images. "on": all but `full` on cached features. "both": all on images,
            and directly after each but `full`, which has no frozen prefix, the same on features.
        compiled: "off": all eager. "on": all compiled, `full` too if the user named it. "both": all
            eager, and directly after each the same compiled.

    Raises:
        SpecError: A spec cannot be read, or names an unknown strategy or option.

    Example:
        >>> from freezekit.plugins.registering import default_registry
        >>> [found.label for found in choose(["batch-norm"], default_registry(), "on")]
        ['full', 'batch-norm [lean]']
        >>> [found.label for found in choose(["batch-norm"], default_registry(), "both")]
        ['full', 'full [lean]', 'batch-norm', 'batch-norm [lean]']
        >>> found = choose(["head-only"], default_registry(), cache="both")
        >>> [variant.label for variant in found]
        ['full', 'head-only', 'head-only [cache]']
        >>> found = choose(["full"], default_registry(), lean="both", compiled="both")
        >>> [variant.label for variant in found]
        ['full', 'full [compiled]', 'full [lean]', 'full [lean, compiled]']
    """
    specs = [format_spec(registry.sums(text)) for text in texts]
    if "on" not in (lean, compiled):
        specs = [BASELINE.spec, *specs]
    asked = [
        Variant(spec, is_lean, compiled=is_compiled)
        for spec in specs
        for is_lean in KINDS[lean]
        for is_compiled in KINDS[compiled]
    ]
    found = (each for one in [BASELINE, *asked] for each in _cached(one, cache))
    return tuple(dict.fromkeys(found))


def _cached(variant: Variant, cache: Lean) -> tuple[Variant, ...]:
    if cache == "off" or variant.spec == BASELINE.spec:
        return (variant,)
    cached = replace(variant, cached=True)
    return (cached,) if cache == "on" else (variant, cached)


def empty_rows(variants: Sequence[Variant], registry: Registry) -> tuple[Row, ...]:
    """Return a row without figures for each variant, with the plugin that its strategy is from.

    Example:
        >>> from freezekit.plugins.registering import default_registry
        >>> empty_rows([BASELINE], default_registry())[0].plugin.distribution
        'freezekit'
    """
    return tuple(
        Row(
            v.spec,
            v.lean,
            plugin=plugin_of_specs(v.spec, registry),
            cached=v.cached,
            compiled=v.compiled,
        )
        for v in variants
    )


def plugin_of_specs(spec: str, registry: Registry) -> Plugin:
    """Return the plugin of a spec's strategies; of several, their names are joined."""
    records = [registry.plugin_of(strategy) for strategy in registry.create(spec)]
    return Plugin(
        name=" + ".join(record.name for record in records),
        distribution=" + ".join(dict.fromkeys(record.distribution for record in records)),
        version=" + ".join(dict.fromkeys(record.version for record in records)),
    )
