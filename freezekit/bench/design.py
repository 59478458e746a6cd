"""The design of a timing run: blocks, rounds and turns in random order, sized to the budget.

A block rebuilds everything. A round gives each strategy one turn. A turn is a few steps of one
strategy, the first discarded. Nothing is measured here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from freezekit.results.records import DISCARDED_STEPS

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKS = 8
LEAST_BLOCKS = 5
ROUNDS = 3
STEPS_PER_TURN = 3
WARMUP_STEPS = {"cpu": 3, "cuda": 10}
LEAST_SECONDS = 5.0  # for all blocks, where the budget leaves less


@dataclass(frozen=True)
class Design:
    """How much is measured.

    Attributes:
        blocks: Times that all models, optimizers and inputs are rebuilt.
        rounds: Random permutations of the strategies in a block.
        steps_per_turn: Steps of one strategy at a time, the first discarded.
        warmup: Steps of each strategy before the rounds of a block.
        budget_seconds: Asked for the whole run; None without a budget.
        expected_seconds: The estimate for the whole run when it was sized.
        overhead_seconds: The part of the budget that was used before the first block.
        least_seconds: What blocks may take even where the budget leaves less.

    Raises:
        ValueError: A count is too small to measure anything.

    Example:
        >>> design = Design()
        >>> design.blocks, design.rounds, design.turns(strategies=4)
        (8, 3, 96)
    """

    blocks: int = BLOCKS
    rounds: int = ROUNDS
    steps_per_turn: int = STEPS_PER_TURN
    warmup: int = WARMUP_STEPS["cpu"]
    budget_seconds: float | None = None
    expected_seconds: float | None = None
    overhead_seconds: float = 0.0
    least_seconds: float = 0.0

    def __post_init__(self) -> None:
        least = {"blocks": 1, "rounds": 1, "steps_per_turn": DISCARDED_STEPS + 1, "warmup": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected at least {low}")

    def turns(self, strategies: int) -> int:
        """Return the number of turns of a whole run; `strategies` counts the control."""
        return self.blocks * self.rounds * strategies

    @property
    def available_seconds(self) -> float:
        """The time that the whole run may take."""
        return max(self.budget_seconds or 0.0, self.overhead_seconds + self.least_seconds)

    @property
    def cut(self) -> str | None:
        """What the budget reduced, as a sentence; None where it reduced nothing.

        Example:
            >>> Design(blocks=5, rounds=2, budget_seconds=60.0, expected_seconds=55.0).cut
            'to fit 60 s, 5 blocks instead of 8 and 2 rounds instead of 3'
            >>> Design(blocks=5, budget_seconds=2, expected_seconds=9, overhead_seconds=4).cut
            'to come near 2 s, 5 blocks instead of 8; it takes about 9 s, 4 s of them before ...'
        """
        counts = (("block", self.blocks, BLOCKS), ("round", self.rounds, ROUNDS))
        cuts = [
            f"{there} {what}{'s' if there > 1 else ''} instead of {usual}"
            for what, there, usual in counts
            if there < usual
        ]
        if self.budget_seconds is None or not cuts:
            return None
        asked, takes = self.budget_seconds, self.expected_seconds or 0.0
        if takes <= asked * 1.02:
            return f"to fit {asked:g} s, {' and '.join(cuts)}"
        before = f", {_seconds(self.overhead_seconds)} of them before the first block"
        return (
            f"to come near {asked:g} s, {' and '.join(cuts)}; it takes about {_seconds(takes)}"
            f"{before if self.overhead_seconds >= 0.5 else ''}"
        )

    def record(self) -> dict[str, Any]:  # Any: counts, seconds and a sentence
        """Return the design for `Result.timing_design`, with what the budget reduced."""
        return {
            "blocks": self.blocks,
            "rounds": self.rounds,
            "steps_per_turn": self.steps_per_turn,
            "discarded_steps": DISCARDED_STEPS,
            "warmup": self.warmup,
            "budget_seconds": self.budget_seconds,
            "expected_seconds": self.expected_seconds,
            "overhead_seconds": self.overhead_seconds,
            "least_seconds": self.least_seconds,
            "blocks_cut": max(0, BLOCKS - self.blocks),
            "rounds_cut": max(0, ROUNDS - self.rounds),
            "cut": self.cut,
        }


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 9.5 else f"{value:.1g} s"


@dataclass(frozen=True)
class BlockOrder:
    """Random orders of one block: in which to build, and in which to take turns, round by round."""

    build: tuple[str, ...]
    rounds: tuple[tuple[str, ...], ...]


def block_order(names: Sequence[str], block: int, seed: int, rounds: int = ROUNDS) -> BlockOrder:
    """Return the orders of one block.

    They depend on seed, block and names only. Neither another block nor a smaller number of rounds
    changes them. So a smaller budget leaves the orders of the remaining blocks as they are.

    Example:
        >>> order = block_order(["full", "head-only", "control"], block=0, seed=0)
        >>> sorted(order.build), len(order.rounds)
        (['control', 'full', 'head-only'], 3)
        >>> block_order(["full", "head-only", "control"], 0, 0, rounds=1).rounds == order.rounds[:1]
        True
    """
    generator = random.Random(f"{seed}/{block}")
    build, *turns = (tuple(generator.sample(list(names), len(names))) for _ in range(rounds + 1))
    return BlockOrder(build, tuple(turns))


def orders(design: Design, names: Sequence[str], seed: int) -> tuple[BlockOrder, ...]:
    """Return the orders of all blocks; `names` includes the control.

    Example:
        >>> len(orders(Design(blocks=5), ["full", "control"], seed=0))
        5
    """
    return tuple(block_order(names, b, seed, design.rounds) for b in range(design.blocks))


def fit_budget(
    setup_seconds: float,
    round_seconds: float,
    budget_seconds: float,
    *,
    warmup: int = WARMUP_STEPS["cpu"],
    overhead_seconds: float = 0.0,
    least_seconds: float = 0.0,
) -> Design:
    """Size a design to a budget: as many rounds as fit with five blocks, then more blocks.

    Blocks are reduced first, from 8 to 5, then rounds, from 3 to 1. With fewer rounds, blocks fill
    the time that is left. Where even 5 blocks of 1 round do not fit, that is the design, and its
    `cut` says so.

    Args:
        setup_seconds: To build and warm up all strategies once, the control included.
        round_seconds: For one turn of each.
        budget_seconds: What the whole run may take.
        warmup: Steps of warm-up. They are part of `setup_seconds`; the number is only recorded.
        overhead_seconds: Used already, before the first block.
        least_seconds: What blocks may take even where the budget leaves less.

    Example:
        >>> fit_budget(setup_seconds=3.0, round_seconds=2.0, budget_seconds=100.0).blocks
        8
        >>> small = fit_budget(setup_seconds=3.0, round_seconds=2.0, budget_seconds=40.0)
        >>> small.blocks, small.rounds, small.expected_seconds
        (5, 2, 35.0)
    """
    sized = [
        Design(
            blocks=blocks,
            rounds=rounds,
            warmup=warmup,
            budget_seconds=budget_seconds,
            expected_seconds=overhead_seconds + blocks * (setup_seconds + rounds * round_seconds),
            overhead_seconds=overhead_seconds,
            least_seconds=least_seconds,
        )
        for rounds in range(ROUNDS, 0, -1)
        for blocks in range(BLOCKS, LEAST_BLOCKS - 1, -1)
    ]
    fitting = (d for d in sized if (d.expected_seconds or 0) <= d.available_seconds)
    return next(fitting, sized[-1])


def refit(design: Design, block_seconds: Sequence[float]) -> Design:
    """Return the design with the number of blocks that their pace allows; the rounds stay.

    A design without a budget is returned unchanged. The number stays between 5 and 8. It depends on
    time only, never on the results.

    Example:
        >>> sized = Design(blocks=8, budget_seconds=60.0, expected_seconds=56.0)
        >>> refit(sized, [10.0]).blocks, refit(sized, [7.5]).blocks, refit(sized, [90.0]).blocks
        (6, 8, 5)
    """
    if design.budget_seconds is None or not block_seconds:
        return design
    done, spent = len(block_seconds), sum(block_seconds)
    pace = spent / done
    left = design.available_seconds - design.overhead_seconds - spent
    blocks = done + max(0, int(left / pace))
    blocks = max(done, min(BLOCKS, max(LEAST_BLOCKS, blocks)))
    expected = design.overhead_seconds + blocks * pace
    return replace(design, blocks=blocks, expected_seconds=expected)


def load_warning(threads: int, load_average: float, cores: int) -> str | None:
    """Return a warning where the threads exceed the cores that other processes leave free.

    Args:
        threads: That a step will use.
        load_average: Of the last minute, read before any worker started.
        cores: The cores that this process may use.

    Example:
        >>> load_warning(threads=2, load_average=0.1, cores=2)
        >>> load_warning(threads=2, load_average=1.6, cores=2)
        '2 threads on 2 cores under a load of 1.6: step times will not be reliable; ...'
    """
    busy = 0.5  # an idle machine has a load up to this
    if threads <= cores - load_average + busy:
        return None
    free = max(1, int(cores - load_average))
    advice = f"--threads {free}" if free < threads else "a machine at rest"
    many = "s" if threads > 1 else ""
    return (
        f"{threads} thread{many} on {cores} cores under a load of {load_average:.1f}: step times "
        f"will not be reliable; stop other programs, or use {advice}"
    )
