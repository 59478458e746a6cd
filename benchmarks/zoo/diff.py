"""What a change of the staging rules does to every model: its stages beside the committed ones."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from benchmarks.zoo.pool import ROOT
from benchmarks.zoo.stage_lines import expanded
from benchmarks.zoo.sweep import RESULTS, read, sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.zoo.models import ZooModel

Line = dict[str, Any]  # Any: JSON

GOLDEN = RESULTS / "zoo-stages.jsonl"
"""The committed stages: versions of the libraries in the first line, then one model a line."""

STATE = ROOT / "build" / "zoo-stages.jsonl"
"""What is done of a run; the next run goes on from it if the code is the same."""

CODE = (
    "freezekit/staging",
    "freezekit/model",
    "benchmarks/zoo/models.py",
    "benchmarks/zoo/stage_lines.py",
)
"""What stages depend on; a change in any of it begins the run anew."""

KEPT = ("stages", "names", "rest", "reason")
"""What the golden file says of a model, beside its name."""

SHOWN = 4
"""Models named in a line, and parameters; the others are counted."""


def diff(
    models: Sequence[ZooModel],
    *,
    whole: bool,
    accept: bool = False,
    golden: Path = GOLDEN,
    state: Path = STATE,
    workers: int = 2,
    fresh: bool = False,
) -> int:
    """Stage the models, print what moved, and return the exit code: 1 if anything did.

    Args:
        models: What to compare.
        whole: Whether these are all models, so that a committed one that is missing is gone.
        accept: Rewrite the golden file; the exit code is 0 then.
        golden: The committed stages.
        state: Where the stages of this run are kept.
        workers: Processes.
        fresh: Begin anew, whatever `state` holds.
    """
    jobs = [{"library": m.library, "name": m.name, "family": m.family} for m in models]
    lines = sweep(
        "stages", jobs, output=state, workers=workers, fresh=fresh, code=CODE, restart=True
    )
    facts = read(state)[0]
    wanted = {model.text for model in models}
    found = {line_text(line): line for line in lines if line_text(line) in wanted}
    header, committed = read_golden(golden)
    for name in ("torch", "torchvision", "timm"):
        if committed and header.get(name) != facts.get(name):
            print(f"{name} is {facts.get(name)}; the file was made with {header.get(name)}")
    moved = {text: told for text in found if (told := moves(committed.get(text), found[text]))}
    if whole:
        moved |= dict.fromkeys(sorted(committed.keys() - found), "the libraries list it no more")
    report(moved)
    print(f"{len(found)} models compared, {len(moved)} moved")
    if not accept:
        return 1 if moved else 0
    kept = {} if whole else committed
    golden.write_text(
        written(facts, kept | {t: {k: x[k] for k in KEPT if k in x} for t, x in found.items()}),
        encoding="utf-8",
    )
    print(f"{golden} rewritten")
    return 0


def read_golden(path: Path) -> tuple[Line, dict[str, Line]]:
    """Return the facts and the line of each model; nothing if there is no such file."""
    facts, lines = read(path)
    return facts, {line["model"]: line for line in lines}


def written(facts: Line, lines: Mapping[str, Line]) -> str:
    """Return the golden file as text: versions, then the models in the order of names."""
    header = {name: facts[name] for name in ("timm", "torch", "torchvision") if name in facts}
    models = [{"model": text} | dict(lines[text]) for text in sorted(lines)]
    return "".join(json.dumps(line) + "\n" for line in [header, *models])


def line_text(line: Mapping[str, Any]) -> str:
    """Return what `freezekit.load_backbone` calls the model of a line."""
    return f"{line['library']}:{line['name']}"


def moves(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Say how the stages of a model differ from the committed ones, "" if they do not.

    Args:
        before: Its line of the golden file; None if it has none.
        now: What `stage_lines.examine` answered.

    Example:
        >>> before = {"stages": "stem 0 | a 1-2 | head 3", "names": "77ab", "rest": "01cd"}
        >>> now = before | {"stages": "stem 0-1 | b 2 | head 3", "parameters": ["p", "q", "r", "s"]}
        >>> print(moves(before, now))
        stages: stem | a | head -> stem | b | head
        1 parameter from a to stem: q
        1 parameter from a to b: r
    """
    if before is None:
        return "not in the committed file"
    if "stages" not in now or "stages" not in before:
        reasons = [line.get("reason", "staged") for line in (before, now)]
        return "" if reasons[0] == reasons[1] else f"was: {reasons[0]}\nis: {reasons[1]}"
    if before["names"] != now["names"]:
        return "its parameters have other names or another order than in the committed file"
    if before["stages"] == now["stages"]:
        same = before["rest"] == now["rest"]
        return "" if same else "the same parameters; buffers, modules or output layouts moved"
    old = expanded(before["stages"], now["parameters"])
    new = expanded(now["stages"], now["parameters"])
    told = []
    if list(old) != list(new):
        told.append(f"stages: {_row(old, new)} -> {_row(new, old)}")
    renamed = {
        (a, b)
        for a, held in old.items()
        for b in new.keys() - old.keys()
        if held and held == new[b]
    }
    told += [f"{a} is now called {b}" for a, b in sorted(renamed)]
    stage_now = {name: stage for stage, names in new.items() for name in names}
    travelled: dict[tuple[str, str], list[str]] = defaultdict(list)
    for stage, names in old.items():
        for name in names:
            way = stage, stage_now[name]
            if stage != stage_now[name] and way not in renamed:
                travelled[way].append(name)
    told += [
        f"{len(names)} parameter{'s' * (len(names) > 1)} from {a} to {b}: {_some(names)}"
        for (a, b), names in travelled.items()
    ]
    return "\n".join(told)


def report(moved: Mapping[str, str]) -> None:
    """Print what moved; models of which the same is to be said stand together."""
    alike: dict[str, list[str]] = defaultdict(list)
    for text, told in moved.items():
        alike[told].append(text)
    for told, texts in alike.items():
        print(f"{_some(texts)}:")
        for line in told.splitlines():
            print(f"  {line}")
    sys.stdout.flush()


def _row(stages: Iterable[str], others: Iterable[str]) -> str:
    """Name the stages in order; those that the other side has too are dots if there are many."""
    known = set(others)
    listed = list(stages)
    if len(listed) <= 8:
        return " | ".join(listed)
    row: list[str] = []
    for name in listed:
        if name not in known or name in ("stem", "head"):
            row.append(name)
        elif row[-1] != "..":
            row.append("..")
    return " | ".join(row)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
