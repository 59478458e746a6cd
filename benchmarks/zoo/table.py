"""From the JSON lines of the sweeps to one page of Markdown."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from benchmarks.zoo.models import LIBRARIES
from benchmarks.zoo.peers_table import peers_section
from benchmarks.zoo.sweep import read
from benchmarks.zoo.tabulate import cell, fraction, table
from benchmarks.zoo.verify_families import STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Line = dict[str, Any]  # Any: JSON

HOLDS = ("complete", "disjoint", "ordered", "whole", "clean")


def write_table(folder: Path) -> None:
    """Write zoo.md beside the sweeps that it is made of."""
    (folder / "zoo.md").write_text(render(folder), encoding="utf-8")


def render(folder: Path) -> str:
    """Return the page as text; a sweep that is not there leaves its section out."""
    facts, coverage = read(folder / "zoo-coverage.jsonl")
    _, verified = read(folder / "zoo-verify.jsonl")
    peers_facts, peers = read(folder / "zoo-peers.jsonl")
    sections = [
        "# Every model of timm and torchvision\n\n"
        "Made by `python -m benchmarks.zoo` from the JSON lines beside this file; what each column "
        "means is said in [`../README.md`](../README.md#the-zoo).\n\n" + _versions(facts),
        _coverage(coverage) if coverage else "",
        _verified(verified) if verified else "",
        peers_section(coverage, peers, peers_facts) if peers else "",
        _families(coverage, verified) if coverage else "",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _versions(facts: Line) -> str:
    said = ", ".join(f"{name} {facts.get(name)}" for name in ("torch", "torchvision", "timm"))
    return f"{said}; the coverage sweep took {facts.get('seconds', 0):.0f} s here."


def faults(line: Line) -> str:
    """Say what is wrong with the stages of a model, "" where nothing is.

    Example:
        >>> line = {"status": "staged", **dict.fromkeys(HOLDS, True)}
        >>> faults(line), faults(line | {"clean": False, "unclean": [[2, "norm"]]})
        ('', 'not clean (with 2 frozen: norm)')
    """
    if line["status"] != "staged":
        return f"{line['status']}: {line.get('reason', '')}"
    wrong = [f"not {what}" for what in HOLDS if not line.get(what)]
    where = "; ".join(f"with {n} frozen: {name}" for n, name in line.get("unclean", ()))
    return ", ".join(wrong) + (f" ({where})" if where else "")


def _coverage(lines: Sequence[Line]) -> str:
    rows = []
    for library in LIBRARIES:
        own = [line for line in lines if line["library"] == library]
        staged = [line for line in own if line["status"] == "staged"]
        if own:
            held = [fraction(sum(bool(x.get(what)) for x in staged), len(own)) for what in HOLDS]
            rows.append([library, str(len(own)), fraction(len(staged), len(own)), *held])
    wrong = [[f"{x['library']}:{x['name']}", faults(x)] for x in lines if faults(x)]
    head = ["library", "models", "staged", *("complete", "disjoint", "in order", "whole", "clean")]
    said = "No exception." if not wrong else table(["exception", "reason"], wrong)
    return f"## Stages\n\n{table(head, rows)}\n\n{said}"


def _verified(lines: Sequence[Line]) -> str:
    rows = []
    for strategy in STRATEGIES:
        own = [line for line in lines if line["strategy"] == strategy]
        count = [sum(x["status"] == s for x in own) for s in ("passed", "failed", "refused")]
        skipped = sum(x["status"] == "skipped" for x in own)
        rows.append([f"`{strategy}`", str(len(own)), *map(str, (*count, skipped))])
    head = ["strategy", "models", "passed", "failed", "refused", "skipped"]
    failed = [
        [f"{x['library']}:{x['name']}", f"`{x.get('spec', x['strategy'])}`", _why(x)]
        for x in lines
        if x["status"] == "failed"
    ]
    parts = [f"## Trained: the smallest model of each family\n\n{table(head, rows)}"]
    if failed:
        parts.append(table(["failed", "strategy", "why"], failed))
    for status in ("refused", "skipped"):
        reasons: dict[str, list[str]] = defaultdict(list)
        for line in lines:
            if line["status"] == status:
                reasons[_short(line["reason"])].append(line["name"])
        named = [[reason, str(len(names)), _some(names)] for reason, names in reasons.items()]
        if named:
            parts.append(table([f"{status} because", "times", "models"], named))
    return "\n\n".join(parts)


def _why(line: Line) -> str:
    checks = [f"{n}: {said} {', '.join(names)}" for n, said, names in line.get("failed", ())]
    return "; ".join(checks) or line.get("reason", "")


def _short(reason: str) -> str:
    """Leave out what differs from model to model, so that reasons can be counted."""
    if "has no batch norm" in reason:
        return "no norm that keeps running statistics"
    return reason


def _some(names: Iterable[str], shown: int = 4) -> str:
    listed = sorted(set(names))
    more = f" and {len(listed) - shown} more" if len(listed) > shown else ""
    return ", ".join(listed[:shown]) + more


def _families(coverage: Sequence[Line], verified: Sequence[Line]) -> str:
    """Return every family: its models, and how its smallest one fared."""
    families: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in coverage:
        families[line["library"], line["family"]].append(line)
    tried: dict[tuple[str, str], dict[str, Line]] = defaultdict(dict)
    for line in verified:
        tried[line["library"], line["family"]][line["strategy"]] = line
    rows = []
    for key, lines in sorted(families.items()):
        fine = sum(not faults(line) for line in lines)
        answers = tried.get(key, {})
        one = next(iter(answers.values()), {})
        model = f"{one['name']}, {one.get('image_size', '-')} px" if one else "-"
        marks = [cell(answers.get(strategy, {}).get("status")) for strategy in STRATEGIES]
        rows.append([*key, fraction(fine, len(lines)), _counts(lines), model, *marks])
    head = ["library", "family", "right", "stages", "trained", *(f"`{s}`" for s in STRATEGIES)]
    return (
        "## Family by family\n\n"
        "right: models whose stages have none of the faults above; stages: fewest to most.\n\n"
        f"<details><summary>{len(rows)} families</summary>\n\n{table(head, rows)}\n\n</details>"
    )


def _counts(lines: Sequence[Line]) -> str:
    counts = [len(line["stages"]) for line in lines if line.get("stages")]
    if not counts:
        return "-"
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
