"""What two result files have in common: the same workload, and the same rows in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from freezekit.bench.environment import differing
from freezekit.errors import CompareError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from freezekit.results.records import Result, Row, Workload


@dataclass(frozen=True)
class Pair:
    """One workload, measured twice.

    Attributes:
        old, new: The two runs.
        rows: Rows that both have, in the order of the new one.
        only_old, only_new: Labels of rows that no run of this workload in the other file has; the
            first pair of a workload names them.
    """

    old: Result
    new: Result
    rows: tuple[tuple[Row, Row], ...]
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Facts of the environment in which the runs differ, each with both values."""
        return differing(self.old.env, self.new.env)


def find_run(
    results: Sequence[Result], asked: Workload, source: str, besides: Collection[str] = ()
) -> Result:
    """Return the last run of a workload, as `find_runs` does."""
    return find_runs(results, asked, source, besides)[-1]


def find_runs(
    results: Sequence[Result], asked: Workload, source: str, besides: Collection[str] = ()
) -> tuple[Result, ...]:
    """Return the runs of a workload, at least one; what that leaves open yet may be anything.

    Args:
        results: Of one file.
        asked: Resolved or not.
        source: How the error calls the file.
        besides: Fields that may differ.

    Raises:
        CompareError: There is none; the message says what there is instead.
    """
    open_yet = {name for name in ("image_size", "input_shape") if getattr(asked, name) is None}
    besides = {*besides, *open_yet}
    found = tuple(run for run in results if not _differing(run.workload, asked, besides))
    if found:
        return found
    held = [result.workload for result in results]
    if asked.model not in {workload.model for workload in held}:
        models = ", ".join(sorted({workload.model for workload in held}))
        raise CompareError(f"{source} holds no run of {asked.model!r}, only of {models}")
    raise CompareError(f"{source} has no such run: {_differences(held, [asked], besides)}")


def pair(old: Sequence[Result], new: Sequence[Result]) -> tuple[Pair, ...]:
    """Return the runs of the two files that have rows in common.

    A file may hold several runs of one workload, as after `--resume`: a row is compared with the
    last of the old runs that has it.

    Args:
        old: Results of one file.
        new: Of the other.

    Raises:
        CompareError: No workload is in both; the message says in what they differ.

    Example:
        >>> from freezekit.results.records import Result, Row, Workload
        >>> result = Result("0.1.0", Workload("timm:resnet18"), {}, (Row("full"),))
        >>> [(a.label, b.label) for a, b in pair([result], [result])[0].rows]
        [('full', 'full')]
    """
    keys = dict.fromkeys(run.workload.key for run in new)
    sides = [
        [[run for run in side if run.workload.key == key] for side in (old, new)] for key in keys
    ]
    found = [pair for olds, news in sides for pair in _pairs(olds, news)]
    if not found:
        before, after = ([result.workload for result in side] for side in (old, new))
        said = _differences(before, after)
        raise CompareError(f"the files have no workload in common: {said}")
    return tuple(found)


def unpaired(results: Sequence[Result], others: Sequence[Result]) -> tuple[Result, ...]:
    """Return the last run of each workload that the other file lacks.

    Example:
        >>> from freezekit.results.records import Result, Workload
        >>> runs = [Result("0.1.0", Workload(model), {}) for model in ("timm:a", "timm:b")]
        >>> [run.workload.model for run in unpaired(runs, runs[:1])]
        ['timm:b']
    """
    last = {run.workload.key: run for run in results}
    return tuple(run for run in last.values() if not any(_same(run, other) for other in others))


def apart(one: Workload, other: Workload) -> str:
    """Say in what a workload differs from another one.

    Example:
        >>> from freezekit.results.records import Workload
        >>> apart(Workload("timm:a", seed=1), Workload("timm:a"))
        'seed 1, not 0'
    """
    a, b = msgspec.to_builtins(one), msgspec.to_builtins(other)
    return "; ".join(f"{name} {a[name]}, not {b[name]}" for name in _names_apart(a, b, ()))


def earlier_rows(old: Sequence[Result], new: Result) -> dict[str, tuple[Result, Row]]:
    """Return by label the old rows of a new run's workload, as gates take them."""
    return {row.label: (run, row) for run in old if _same(run, new) for row in run.rows}


def _same(old: Result, new: Result) -> bool:
    return old.workload.key == new.workload.key


def _pairs(olds: Sequence[Result], news: Sequence[Result]) -> list[Pair]:
    """Pair the runs of one workload."""
    found = [pair for new in news for pair in _pairs_of(olds, new)]
    if found:
        gone, come = _labels_beside(olds, news), _labels_beside(news, olds)
        found[0] = replace(found[0], only_old=gone, only_new=come)
    return found


def _pairs_of(olds: Sequence[Result], new: Result) -> list[Pair]:
    left = list(new.rows)
    found = []
    for old in reversed(olds):
        before = {row.variant: row for row in old.rows}
        rows = tuple((before[row.variant], row) for row in left if row.variant in before)
        if rows:
            found.append(Pair(old, new, rows))
            left = [row for row in left if row.variant not in before]
    return found


def _labels_beside(runs: Sequence[Result], others: Sequence[Result]) -> tuple[str, ...]:
    """Return the labels of rows that none of the others has, each once."""
    known = {row.label for run in others for row in run.rows}
    labels = dict.fromkeys(row.label for run in runs for row in run.rows)
    return tuple(label for label in labels if label not in known)


def _differences(
    old: Sequence[Workload], new: Sequence[Workload], besides: Collection[str] = ()
) -> str:
    """Say in what the two workloads differ that are most alike."""
    found = [(a.model, _differing(a, b, besides)) for a in old for b in new if a.model == b.model]
    if not found:
        names = [", ".join(sorted({workload.model for workload in side})) for side in (old, new)]
        return f"the old one holds {names[0]}, the new one {names[1]}"
    model, fields = min(found, key=lambda one: len(one[1]))
    return f"{model} was measured with another {', '.join(fields)}"


def _differing(old: Workload, new: Workload, besides: Collection[str]) -> list[str]:
    a, b = msgspec.to_builtins(old), msgspec.to_builtins(new)
    return [f"{name} ({a[name]} -> {b[name]})" for name in _names_apart(a, b, besides)]


def _names_apart(
    a: Mapping[str, object], b: Mapping[str, object], besides: Collection[str]
) -> list[str]:
    """Return the fields in which two workloads differ; words for a loss follow from the rest."""
    return [name for name in a if a[name] != b[name] and name not in {*besides, "loss_text"}]
