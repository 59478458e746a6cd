"""The search for the largest batch, on peaks of every shape."""

from __future__ import annotations

import os
import random

import pytest

from freezekit.errors import InsufficientMemoryError, ModelError, SizeError
from freezekit.fit.run import FitOptions, FitRun
from freezekit.fit.search import MAX_BATCH, Largest, largest_batch
from freezekit.results.records import Workload
from freezekit.results.sizes import read_bytes
from freezekit.results.variant import Variant


@pytest.mark.parametrize("slope", [1, 7, 1000])
@pytest.mark.parametrize("limit", [120, 999, 10**6, 10**7])
def test_it_is_what_counting_up_finds(slope: int, limit: int) -> None:
    def peak(batch: int) -> int:
        return 100 + slope * batch + batch % 3  # nearly a line

    found = largest_batch(peak, limit)
    if found.next_peak_bytes is None:
        assert found.batch == MAX_BATCH
        return
    assert found.batch == 0 or peak(found.batch) <= limit
    assert found.next_peak_bytes == peak(found.batch + 1) > limit


def test_a_line_with_a_bend_takes_few_tries() -> None:
    def peak(batch: int) -> int:
        return max(1000 + 3 * batch, 10 * batch)  # what lives for a moment takes over

    found = largest_batch(peak, 12_345)
    assert found.batch == 1234
    assert found.tried <= 8


def test_not_even_one() -> None:
    assert largest_batch(lambda batch: 100 * batch, 50) == Largest(0, 100, 2)
    assert largest_batch(lambda batch: 100 * batch, 100) == Largest(1, 200, 2)


def test_a_peak_that_does_not_grow_ends_at_the_most() -> None:
    found = largest_batch(lambda _: 5, 10, most=1000)
    assert (found.batch, found.next_peak_bytes) == (1000, None)
    assert found.tried <= 11


def test_a_batch_of_one_is_asked_only_where_two_do_not_fit() -> None:
    def peak(batch: int) -> int:
        if batch == 1:
            raise ModelError("Expected more than 1 value per channel")
        return 100 * batch

    assert largest_batch(peak, 1000).batch == 10
    assert largest_batch(peak, 150) == Largest(0, 200, 1)


@pytest.mark.parametrize(
    ("text", "count"), [("8GiB", 2**33), ("1.5 gb", 1.5e9), ("12", 12), ("3kB", 3000), ("2b", 2)]
)
def test_sizes(text: str, count: float) -> None:
    assert read_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "8 gigs", "-3MB", "1e9", "8GiB free"])
def test_what_is_no_size_is_told_how_sizes_are_written(text: str) -> None:
    with pytest.raises(SizeError, match="is no size; expected such as 8GiB"):
        read_bytes(text)


def by_counting(peak, limit, most=3000):
    return max((batch for batch in range(1, most) if peak(batch) <= limit), default=0)


def moments(seed):
    """The highest of several straight lines, as the peak of a step is."""
    drawn = random.Random(seed)
    lines = [(drawn.randrange(1, 2000), drawn.choice([0, 1, 3, 50])) for _ in range(4)]
    lines.append((0, drawn.randrange(1, 40)))
    return (lambda batch: max(start + slope * batch for start, slope in lines)), drawn


@pytest.mark.parametrize("seed", range(200))
def test_the_answer_is_that_of_counting_in_few_tries(seed):
    peak, drawn = moments(seed)
    limit = drawn.randrange(1, 5000)
    found = largest_batch(peak, limit)
    most = by_counting(peak, limit, 6000)
    assert found.batch == most
    assert found.next_peak_bytes == peak(most + 1)
    assert found.tried <= 16


def test_a_peak_that_is_flat_first_and_steep_then():
    """As of a step whose optimizer takes most at small batches: followed, it leads far beyond."""
    asked = []

    def peak(batch):
        asked.append(batch)
        return max(200_000_000 + 100 * batch, 4_000_000 * batch)

    assert largest_batch(peak, 250_000_000).batch == 62
    assert len(asked) == len(set(asked)) <= 10
    assert max(asked) < 5000


def test_a_system_that_does_not_tell_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer(_: str) -> int:
        raise ValueError("unrecognized configuration name")  # as on macOS

    monkeypatch.setattr(os, "sysconf", no_answer)
    run = FitRun(Workload("timm:test_resnet"), FitOptions((Variant("full"),)), lambda _: None)
    with pytest.raises(InsufficientMemoryError, match="give --memory"):
        run.find()
