"""Ranks fill a cache together, and train as without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(on_ranks: Any) -> dict[str, list[Any]]:
    return on_ranks(Path(__file__).with_name("cached_on_two_ranks.py"))


@pytest.mark.parametrize("way", ["in_memory", "in_a_folder"])
def test_a_training_of_two_ranks_has_the_bits_of_one_without_cache(
    found: dict[str, list[Any]], way: str
) -> None:
    for plain, cached in zip(found["on_images"], found[way], strict=True):
        assert [x for x in cached["losses"] if len(x) > 1] == [
            x for x in plain["losses"] if len(x) > 1
        ]
        assert [x for x in cached["losses"] if len(x) == 1] == ["2"] * 3
        assert cached["weights"] == plain["weights"]


def test_ranks_share_the_work(found: dict[str, list[Any]]) -> None:
    first, second = found["calls"]  # 11 samples are 6 batches, in units of two, and 1 more each
    assert (first, second) == (3, 2)


def test_a_folder_holds_one_boundary(found: dict[str, list[Any]]) -> None:
    files = found["in_a_folder"][0]["files"]
    assert files.count("cache.json") == 1
    assert "rows-00002.safetensors" in files
    assert not any("draft" in name for name in files)


@pytest.mark.parametrize(
    ("situation", "first", "second"),
    [
        (
            "one_is_broken",
            "CacheError: rank 1 could not fill its share of the cache: OSError: the disk",
            "OSError: the disk of rank 1 is broken",
        ),
        ("other_data", "CacheError: ranks would fill different caches: data is", None),
        (
            "own_folders",
            "CacheError: files that other ranks wrote in",
            None,
        ),
        ("sharded", "is sharded over ranks (fully_shard), and a cache needs the whole", None),
    ],
)
def test_what_ranks_cannot_fill_is_an_error_on_all(
    found: dict[str, list[Any]], situation: str, first: str, second: str | None
) -> None:
    one, other = found[situation]
    assert first in one
    assert (second or first) in other
