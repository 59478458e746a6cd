"""From raw steps to ratios with intervals: protocol v1, pure and without torch.

Two instances of the same model differ for as long as they exist, so their steps are not independent
samples. Blocks are, because each rebuilds everything. The interval is a t-interval over blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, median, quantiles, stdev, variance
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from freezekit.bench.design import LEAST_BLOCKS
from freezekit.results.records import (
    CONTROL,
    DISCARDED_STEPS,
    Control,
    Raw,
    StepSeconds,
    Time,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UNSTEADY = 0.05  # between the first and the last third of a block's steps: then a row warns


@dataclass(frozen=True)
class Estimate:
    """A ratio of step times with its 95 % interval; `ci` is None where there is one block only."""

    ratio: float
    ci: tuple[float, float] | None
    blocks: int


@dataclass(frozen=True)
class Summary:
    """The estimates from raw steps.

    Attributes:
        times: By label; one without a whole turn is missing.
        control: None where the control or the baseline has no common block.
        noise_floor: The ratio minus 1 below which no difference is claimed; None where the control
            has no interval.
        warnings: By label, for its row.
        notes: For the whole run.
    """

    times: dict[str, Time]
    control: Control | None
    noise_floor: float | None
    warnings: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


def append_block(raw: Raw, event: Mapping[str, Any]) -> Raw:  # Any: parsed from a JSON line
    """Return `raw` with the block of one "block" event of the timing worker added."""
    return Raw(
        order=[*raw.order, event["order"]],
        steps=[*raw.steps, event["steps"]],
        warmup=[*raw.warmup, event["warmup"]],
        split=[*raw.split, event["split"]] if event["split"] else raw.split,
        fill=[*raw.fill, event["fill"]] if event["fill"] else raw.fill,
    )


def block_score(rounds: Sequence[Mapping[str, Sequence[float]]], name: str, baseline: str) -> float:
    """Return the median over rounds of log(turn median / the baseline's turn median).

    `rounds` maps strategies to the seconds of a turn's steps, the first discarded; both names are
    in each round.

    Example:
        >>> turns = {"full": [9.0, 1.0, 1.0], "head-only": [9.0, 0.5, 0.5]}
        >>> round(math.exp(block_score([turns], "head-only", "full")), 3)
        0.5
    """
    return median(math.log(_turn(turns[name]) / _turn(turns[baseline])) for turns in rounds)


def block_scores(raw: Raw, name: str, baseline: str) -> list[float]:
    """Return the scores of the blocks in which both took all their turns."""
    return [
        block_score(rounds, name, baseline)
        for rounds in raw.steps
        if rounds and all(name in turns and baseline in turns for turns in rounds)
    ]


def estimate(scores: Sequence[float]) -> Estimate:
    """Return exp(mean) of the block scores with its t-interval, K - 1 degrees of freedom.

    Example:
        >>> estimate([math.log(0.5), math.log(0.5)]).ci
        (0.5, 0.5)
        >>> estimate([math.log(0.5)]).ci is None
        True
    """
    mean = fmean(scores)
    if len(scores) < 2:
        return Estimate(math.exp(mean), None, len(scores))
    half = _student(len(scores) - 1) * stdev(scores) / math.sqrt(len(scores))
    low, high = math.exp(mean - half), math.exp(mean + half)
    return Estimate(math.exp(mean), (low, high), len(scores))


def estimate_change(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """Return the ratio of two runs' ratios, from their block scores, with its 95 % interval.

    Each run's scores are against its own baseline, which removes the speed of the machine and the
    hour. The interval is Welch's, because the noise of the runs may differ; None where a run has
    one block only.

    Example:
        >>> change = estimate_change([-0.70, -0.68], [-0.5, -0.5])
        >>> round(change.ratio, 3), change.ci[0] < 1.209 < change.ci[1]
        (1.209, True)
    """
    difference = fmean(after) - fmean(before)
    blocks = min(len(before), len(after))
    if blocks < 2:
        return Estimate(math.exp(difference), None, blocks)
    parts = [variance(scores) / len(scores) for scores in (before, after)]
    total = sum(parts)
    if total == 0:
        return Estimate(math.exp(difference), (math.exp(difference),) * 2, blocks)
    weights = [part**2 / (len(s) - 1) for part, s in zip(parts, (before, after), strict=True)]
    half = _student(total**2 / sum(weights)) * math.sqrt(total)
    ends = math.exp(difference - half), math.exp(difference + half)
    return Estimate(math.exp(difference), ends, blocks)


def _student(degrees: float) -> float:
    """Return the t quantile of a two-sided 95 % interval."""
    from scipy.special import stdtrit  # here: it takes a third of a second to import

    return float(stdtrit(degrees, 0.975))


def noise_floor(control: Estimate) -> float | None:
    """Return the far end of the control's interval, as |log ratio|; None where it has no interval.

    It is the largest difference between identical copies that this run has not ruled out. A
    strategy that is a copy of the baseline shares the baseline's errors with the control. So with
    the larger of the control's estimate and its half-width as the floor, 1.4 to 2 % of such copies
    would still be called different (simulated, with instances 2 % and turns 3 % apart; with 8 rows
    that is 1 run in 8). With the far end 0.5 % are.

    Example:
        >>> round(math.exp(noise_floor(Estimate(1.0, (1 / 1.03, 1.02), blocks=8))), 4)
        1.03
    """
    return None if control.ci is None else max(abs(math.log(end)) for end in control.ci)


def verdict(found: Estimate, floor: float | None) -> Verdict:
    """Return the verdict: a difference needs an interval without 1 and a ratio over the floor.

    Example:
        >>> verdict(Estimate(0.9, (0.88, 0.92), blocks=8), floor=0.02)
        'faster'
        >>> verdict(Estimate(0.9, (0.88, 0.92), blocks=8), floor=0.2)
        'no difference shown'
    """
    if found.ci is None or floor is None or found.ci[0] <= 1.0 <= found.ci[1]:
        return "no difference shown"
    if abs(math.log(found.ratio)) <= floor:
        return "no difference shown"
    return "faster" if found.ratio < 1 else "slower"


def summarise(raw: Raw, names: Sequence[str], stock: Mapping[str, str] | None = None) -> Summary:
    """Return times, intervals and verdicts from the measured blocks.

    Args:
        raw: Complete blocks. A strategy that failed is missing from some rounds. It counts in the
            blocks where it and the baseline have all turns.
        names: Labels of the rows, without the control, the baseline first.
        stock: From the label of a lean row to that of the stock row of the same strategy. The two
            are compared like each with the baseline.

    Example:
        >>> block = [{"full": [2.0, 1.0, 1.0], "head-only": [1.0, 0.4, 0.4],
        ...           "control": [2.0, 1.0, 1.0]}]
        >>> summary = summarise(Raw(steps=[block, block]), ["full", "head-only"])
        >>> summary.times["head-only"].ratio, summary.times["head-only"].verdict
        (0.4, 'faster')
        >>> summary.control.ratio
        1.0
    """
    baseline = names[0]
    control = _against(raw, CONTROL, baseline)
    floor = None if control is None else noise_floor(control)
    times: dict[str, Time] = {}
    warnings: dict[str, tuple[str, ...]] = {}
    for name in names:
        steps = _kept_steps(raw, name)
        if not steps:
            continue
        time = Time(_step_seconds(steps), None, None, None, split=_split(raw, name))
        found = _against(raw, name, baseline)
        if found is None:
            few: tuple[str, ...] = (f"no ratio: {baseline!r} was not measured beside it",)
        else:
            few = _few_blocks(found.blocks, len(raw.steps))
            time = replace(
                time, ratio=found.ratio, ratio_ci=found.ci, verdict=verdict(found, floor)
            )
            if name == baseline:
                time = replace(time, ratio=1.0, ratio_ci=(1.0, 1.0), verdict="baseline")
        beside = _against(raw, name, stock[name]) if stock and name in stock else None
        if beside is not None:
            time = replace(time, ratio_to_stock=beside.ratio, ratio_to_stock_ci=beside.ci)
        times[name] = time
        warnings[name] = (*few, *_not_steady(raw, name))
    return Summary(
        times,
        None if control is None else Control(control.ratio, control.ci),
        None if floor is None else math.expm1(floor),
        warnings,
        _notes(names, times, len(raw.steps)),
    )


def _turn(steps: Sequence[float]) -> float:
    return median(steps[DISCARDED_STEPS:])


def _against(raw: Raw, name: str, baseline: str) -> Estimate | None:
    scores = block_scores(raw, name, baseline)
    return estimate(scores) if scores else None


def _kept_steps(raw: Raw, name: str) -> list[float]:
    turns = [turns[name] for rounds in raw.steps for turns in rounds if name in turns]
    return [seconds for turn in turns for seconds in turn[DISCARDED_STEPS:]]


def _step_seconds(steps: Sequence[float]) -> StepSeconds:
    tenths = quantiles([*steps], n=10, method="inclusive") if len(steps) > 1 else [steps[0]] * 9
    return StepSeconds(median(steps), tenths[0], tenths[-1])


def _split(raw: Raw, name: str) -> dict[str, float] | None:
    found = [block[name] for block in raw.split if name in block]
    return {part: median(b[part] for b in found) for part in found[0]} if found else None


def _few_blocks(blocks: int, of: int) -> tuple[str, ...]:
    """Return a warning for a row with too few blocks; too few in the whole run make a note."""
    if blocks == 1:
        return ("timed in one block only: no interval",)
    if blocks < min(of, LEAST_BLOCKS):
        return (f"timed in {blocks} blocks only, an interval should have {LEAST_BLOCKS} or more",)
    return ()


def _not_steady(raw: Raw, name: str) -> tuple[str, ...]:
    """Compare the first and last thirds of the kept steps, block by block."""
    drifts = []
    for rounds in raw.steps:
        steps = [s for turns in rounds if name in turns for s in turns[name][DISCARDED_STEPS:]]
        third = max(1, len(steps) // 3)
        if len(steps) > 1:
            drifts.append(abs(median(steps[-third:]) / median(steps[:third]) - 1))
    over = sum(drift > UNSTEADY for drift in drifts)
    if not over:
        return ()
    # Without the count, rows with the same warning share one line of the report.
    share = "most" if over > len(drifts) / 2 else "some"
    return (
        f"not_steady: in {share} blocks the first and last thirds of the steps differ by over "
        f"{UNSTEADY:.0%}",
    )


def _notes(names: Sequence[str], times: Mapping[str, Time], blocks: int) -> tuple[str, ...]:
    if not times:
        return ("no block was measured to its end: no step times",)
    if all(time.ratio is None for time in times.values()):
        return (f"the baseline {names[0]!r} was not measured: no ratios of step time",)
    if 1 < blocks < LEAST_BLOCKS:
        few = f"{blocks} blocks only, an interval should have {LEAST_BLOCKS} or more"
        return (f"step times rest on {few}",)
    return ()
