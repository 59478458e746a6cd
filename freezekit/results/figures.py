"""The list of figures: what each is called, what it counts, and how it is read from a row.

The table, Markdown, CSV, gates, the sortable table in HTML, trackers and comparisons read this
list. To add a figure: measure it, give it a field in `records`, and add it to `FIGURES`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from freezekit.results.derived import flops, peak_change, trainable_fraction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from freezekit.results.records import Result, Row, StepSeconds

Unit = Literal[
    "bytes", "operations", "seconds", "ratio", "share", "change", "count", "text", "truth"
]
"""What a figure counts: "share" is a fraction of a whole, "change" a fraction with its sign."""

Value = float | str | bool
Interval = tuple[float, float]


@dataclass(frozen=True)
class Heading:
    """What a column of the table is called: in full, and short, in at most two lines.

    The unit is added by whoever shows the figure.
    """

    title: str
    short: str


@dataclass(frozen=True)
class Tracked:
    """What services that follow figures over time call one; None where they do not get it.

    Attributes:
        title: For github-action-benchmark, which gets only what another machine hardly moves.
        slug: The measure's name for Bencher.
    """

    title: str | None
    slug: str | None


@dataclass(frozen=True)
class Figure:
    """One figure of a row.

    Attributes:
        name: What gates call it; CSV too, with underscores and without "time.".
        unit: What it counts.
        explanation: A sentence for the reader.
        read: From a result and one of its rows to the value, None where the row lacks it.
        interval: From the row to two ends: of a ratio its 95 % interval, of a time the 10th and the
            90th percentile.
        heading: The heading of its column, None if the table has no such column.
        tracked: Its names for services, None if they do not get it.
        compared: Whether two result files are compared by it, exactly.
    """

    name: str
    unit: Unit
    explanation: str
    read: Callable[[Result, Row], Value | None]
    interval: Callable[[Row], Interval | None] | None = None
    heading: Heading | None = None
    tracked: Tracked | None = None
    compared: bool = False

    @property
    def column(self) -> str:
        """What a column of it is called in CSV.

        Example:
            >>> [f.column for f in FIGURES if f.name in ("flops.forward", "time.ratio_ci.low")]
            ['flops_forward', 'ratio_ci_low']
        """
        return self.name.removeprefix("time.").replace(".", "_")

    @property
    def is_number(self) -> bool:
        """Whether it counts something."""
        return self.unit not in ("text", "truth")


def _memory(
    name: str,
    explanation: str,
    heading: Heading | None = None,
    tracked: Tracked | None = None,
    compared: bool = False,
) -> Figure:
    def read(_: Result, row: Row) -> float | None:
        value: int | None = getattr(row.memory, name)
        return value

    return Figure(name, "bytes", explanation, read, None, heading, tracked, compared)


def _count(name: str, explanation: str) -> Figure:
    def read(_: Result, row: Row) -> int | None:
        return getattr(row.parameters, name) if row.parameters else None

    return Figure(f"parameters.{name}", "count", explanation, read)


def _flops(name: str, explanation: str) -> Figure:
    def read(_: Result, row: Row) -> int | None:
        return getattr(row.flops, name) if row.flops else None

    return Figure(f"flops.{name}", "operations", explanation, read)


def _steps(row: Row) -> StepSeconds | None:
    return row.time.step_seconds if row.time else None


def _step_range(row: Row) -> Interval | None:
    steps = _steps(row)
    return (steps.p10, steps.p90) if steps else None


def _quantile(name: str, explanation: str) -> Figure:
    def read(_: Result, row: Row) -> float | None:
        return getattr(_steps(row), name, None)

    return Figure(f"time.step_seconds.{name}", "seconds", explanation, read)


def _part(name: str) -> Figure:
    def read(_: Result, row: Row) -> float | None:
        return (row.time.split or {}).get(name) if row.time else None

    explanation = f"Median seconds of the {name} part of a step; on CUDA only."
    return Figure(f"time.{name}_seconds", "seconds", explanation, read)


def _with_ends(figure: Figure) -> Iterator[Figure]:
    """Yield a figure, and the two ends of its interval as figures."""
    yield figure
    ends = figure.interval
    assert ends is not None
    for index, (end, word) in enumerate((("low", "Low"), ("high", "High"))):

        def read(_: Result, row: Row, index: int = index) -> float | None:
            found = ends(row)
            return None if found is None else found[index]

        explanation = f"{word} end of the 95 % interval of `{figure.name}`."
        yield Figure(f"{figure.name}_ci.{end}", figure.unit, explanation, read)


_RATIO = Figure(
    "time.ratio",
    "ratio",
    "The step time divided by that of `full`. Both take turns, so that what slows the machine "
    "slows both. In brackets the 95 % interval.",
    lambda _, row: row.time.ratio if row.time else None,
    lambda row: row.time.ratio_ci if row.time else None,
    Heading("ratio to full [95% interval]", "ratio to full\n[95% interval]"),
    Tracked("step time / full", "step-time-ratio"),
)
_RATIO_TO_STOCK = Figure(
    "time.ratio_to_stock",
    "ratio",
    "The step time of a lean row divided by that of the stock row of the same strategy.",
    lambda _, row: row.time.ratio_to_stock if row.time else None,
    lambda row: row.time.ratio_to_stock_ci if row.time else None,
)


def _filling(name: str, unit: Unit, explanation: str) -> Figure:
    def read(_: Result, row: Row) -> float | None:
        return getattr(row.filling, name, None)

    return Figure(f"time.{name}", unit, explanation, read)


_RATIO_TO_UNCACHED = replace(
    _filling(
        "ratio_to_uncached",
        "ratio",
        "The step time on cached features divided by that of the same strategy on images.",
    ),
    interval=lambda row: row.filling.ratio_to_uncached_ci if row.filling else None,
)

_RATIO_TO_EAGER = Figure(
    "time.ratio_to_eager",
    "ratio",
    "The step time of a compiled row divided by that of the same strategy without `torch.compile`.",
    lambda _, row: row.compilation.ratio_to_eager if row.compilation else None,
    lambda row: row.compilation.ratio_to_eager_ci if row.compilation else None,
)

FIGURES: tuple[Figure, ...] = (
    Figure(
        "trainable_fraction",
        "share",
        "The share of the parameters that train. It does not predict memory.",
        lambda _, row: trainable_fraction(row),
        heading=Heading("trainable", "train-\nable"),
    ),
    _memory(
        "peak_bytes",
        "The most memory that one training step takes: the highest total of the allocator.",
        Heading("peak", "peak"),
        Tracked("peak", "peak-bytes"),
        compared=True,
    ),
    Figure(
        "peak_change_fraction",
        "change",
        "The change of the peak from that of `full`.",
        peak_change,
        heading=Heading("against full", "vs\nfull"),
    ),
    _memory(
        "saved_activations_bytes",
        "What autograd keeps from forward to backward, without parameters, buffers and inputs.",
        Heading("saved activations", "saved"),
        Tracked("saved activations", "saved-activations-bytes"),
        compared=True,
    ),
    _memory("predicted_peak_bytes", "The peak of live storages under fake tensors."),
    _memory("tracker_peak_bytes", "The peak of live storages in a real step, without workspace."),
    _memory("parameters_bytes", "All parameters."),
    _memory("buffers_bytes", "All buffers."),
    _memory("inputs_bytes", "The batch and its targets."),
    _memory("gradients_bytes", "Gradients after backward."),
    _memory("optimizer_bytes", "The state of the optimizer."),
    _memory("workspace_bytes", "What kernels take for a moment: `peak_bytes` less the tracker's."),
    _memory("process_bytes", "The most that the process held; never used to rank."),
    _memory("gradients_at_peak_bytes", "Gradients that are alive at the tracker's peak."),
    _memory("saved_at_peak_bytes", "Saved activations that are alive at the tracker's peak."),
    _count("total", "Elements of all parameters; tied parameters count once."),
    _count("trainable", "Elements of the parameters that train."),
    Figure(
        "flops",
        "operations",
        "Floating-point operations of forward and backward, counted and not timed.",
        lambda _, row: flops(row),
        heading=Heading("forward + backward", "fw+bw"),
        tracked=Tracked("forward and backward", "flops"),
        compared=True,
    ),
    _flops("forward", "Floating-point operations of forward and the loss."),
    _flops("backward", "Floating-point operations of backward."),
    Figure(
        "cache_bytes_per_sample",
        "bytes",
        "What a cache of the frozen prefix would keep of each sample.",
        lambda _, row: row.cache.bytes_per_sample if row.cache else None,
    ),
    replace(
        _quantile("median", "The time of one training step: the median of all measured steps."),
        interval=_step_range,
        heading=Heading("step", "step"),
        tracked=Tracked(None, "latency"),
    ),
    _quantile("p10", "A tenth of the measured steps took less."),
    _quantile("p90", "A tenth of the measured steps took more."),
    *map(_part, ("forward", "backward", "optimizer")),
    *_with_ends(_RATIO),
    *_with_ends(_RATIO_TO_STOCK),
    *_with_ends(_RATIO_TO_UNCACHED),
    *_with_ends(_RATIO_TO_EAGER),
    Figure(
        "time.compile_seconds",
        "seconds",
        "The time to compile a row: that of the first step in a process of its own, with an empty "
        "cache of Inductor, less that of a usual step. It is no part of any step time.",
        lambda _, row: row.compilation.compile_seconds if row.compilation else None,
    ),
    _filling(
        "fill_seconds_per_1000_samples",
        "seconds",
        "The time to fill the cache with 1,000 samples: the forward of the prefix, without reading "
        "a data set.",
    ),
    _filling(
        "pays_after_epochs",
        "count",
        "The first number of epochs that save more time than filling the cache takes; none where "
        "steps on features are not shown to be faster.",
    ),
    Figure(
        "verdict",
        "text",
        "faster or slower where the interval excludes 1 and the ratio is beyond the noise floor; "
        "no difference shown everywhere else.",
        lambda _, row: row.time.verdict if row.time else None,
        heading=Heading("verdict", "verdict"),
    ),
    Figure("strategy", "text", "The spec of the strategy.", lambda _, row: row.strategy),
    Figure(
        "lean",
        "truth",
        "Whether the strategy was frozen with lean=True.",
        lambda _, row: row.lean,
    ),
    Figure(
        "cached",
        "truth",
        "Whether steps took features of a cache in place of images.",
        lambda _, row: row.cached,
    ),
    Figure(
        "compiled",
        "truth",
        "Whether `torch.compile` compiled the model.",
        lambda _, row: row.compiled,
    ),
)
