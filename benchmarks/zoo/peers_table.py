"""The section on other tools: the same questions, side by side."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from benchmarks.zoo.peers import CONVERTERS, FREEZERS
from benchmarks.zoo.tabulate import fraction, table

if TYPE_CHECKING:
    from collections.abc import Sequence

Line = dict[str, Any]  # Any: JSON

FROZEN = ("whole", "weights", "statistics", "same")


def peers_section(coverage: Sequence[Line], peers: Sequence[Line], facts: Line) -> str:
    """Return what freezekit and the others reach: stages, freezing, norms."""
    said = ", ".join(f"{name} {facts[name]}" for name in ("lightning", "fastai") if name in facts)
    return "\n\n".join(
        [
            f"## What others reach\n\n{said}, and those above.",
            "### A partition, and a clean prefix\n\n" + _partitions(coverage, peers),
            "### The first two stages frozen, then `train()` and three steps\n\n" + _frozen(peers),
            "### Norms converted\n\n" + _converted(peers),
            _reasons(peers),
        ]
    )


def _partitions(coverage: Sequence[Line], peers: Sequence[Line]) -> str:
    rows = []
    for library in ("torchvision", "timm"):
        own = [x for x in coverage if x["library"] == library]
        rows.append(_partition(f"freezekit, {library}", len(own), own, "status", "staged"))
    groups = [x["timm_groups"] for x in coverage if "timm_groups" in x]
    rows.append(_partition("timm coarse groups, timm", len(groups), groups, "groups"))
    for library, known in (("torchvision", True), ("torchvision", False), ("timm", False)):
        asked = [x for x in peers if x["peer"] == "fastai" and x["library"] == library]
        asked = [x for x in asked if x["status"] != "-"]
        if library == "torchvision":
            # Where fastai raised, the family is one that it does not list.
            asked = [x for x in asked if bool(x.get("known")) == known]
        which = "" if library == "timm" else ", listed" if known else ", not listed"
        name = f"fastai, {library}{which}, one of a family"
        rows.append(_partition(name, len(asked), asked, "groups"))
    loose = [x["unmatched"] for x in groups if x.get("unmatched") is not None]
    much = sum(share > 0.01 for share in loose)
    note = (
        f"timm puts what no rule matches in with the head: more than 1 % of the parameters besides "
        f"the classifier in {much} models, {max(loose, default=0):.0%} at most."
    )
    head = ["tool", "models", "answers", "complete", "clean at every boundary"]
    return f"{table(head, rows)}\n\n{note}"


def _partition(
    name: str, count: int, lines: Sequence[Line], answer: str, value: str | None = None
) -> list[str]:
    answered = [x for x in lines if answer in x and (value is None or x[answer] == value)]
    return [
        name,
        str(count),
        fraction(len(answered), count),
        fraction(sum(bool(x["complete"]) for x in answered if "complete" in x), count),
        fraction(sum(bool(x.get("clean")) for x in answered), count),
    ]


def _frozen(peers: Sequence[Line]) -> str:
    rows = []
    for peer in (*FREEZERS, "fastai"):
        own = [x for x in peers if x["peer"] == peer and x["status"] != "-"]
        # fastai freezes its own body, not what it is told to, in a model that it makes.
        asked = [what for what in FROZEN if peer != "fastai" or what != "whole"]
        held = [
            fraction(sum(bool(x.get(what)) for x in own), len(own)) if what in asked else "-"
            for what in FROZEN
        ]
        every = sum(all(x.get(what) for what in asked) for x in own)
        raised = sum("reason" in x for x in own)
        keys = sum(bool(x.get("keys")) for x in own)
        kept = "-" if peer == "fastai" else fraction(keys, len(own))
        rows.append([peer, str(len(own)), *held, fraction(every, len(own)), kept, str(raised)])
    columns = ["all of it frozen", "weights kept", "statistics kept", "same in train and eval"]
    head = ["tool", "models", *columns, "all of these", "keys kept", "raised"]
    return table(head, rows)


def _converted(peers: Sequence[Line]) -> str:
    rows = []
    for peer in CONVERTERS:
        own = [x for x in peers if x["peer"] == peer and x["status"] != "-"]
        done = [x for x in own if x["status"] == "done"]
        rows.append(
            [
                peer,
                str(len(own)),
                fraction(sum(x["outputs"] for x in done), len(own)),
                fraction(sum(not x["left"] for x in done), len(own)),
                fraction(sum(x["keys"] for x in done), len(own)),
                str(len(own) - len(done)),
            ]
        )
    head = ["conversion", "models with such norms", "outputs unchanged", "none left", "keys kept"]
    return table([*head, "raised"], rows)


def _reasons(peers: Sequence[Line]) -> str:
    """List what was raised, and what could not be asked."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for line in peers:
        if "reason" in line:
            reason = line["reason"].partition("\n")[0][:160]
            found[line["peer"], line["status"], reason].append(line["name"])
    rows = [
        [peer, status, str(len(names)), ", ".join(sorted(names)[:3]), reason]
        for (peer, status, reason), names in sorted(found.items())
    ]
    head = ["tool", "answer", "models", "such as", "reason"]
    return (
        f"<details><summary>What could not be answered</summary>\n\n{table(head, rows)}\n\n"
        "</details>"
    )
