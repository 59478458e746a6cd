"""The results of `families` in a few lines: counts, and what is not equal by its reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.zoo.sweep import Line


def summary(lines: Sequence[Line]) -> str:
    """Return how many boundaries have the same bits, and what the others say.

    Example:
        >>> boundary = {"spec": "head-only", "result": "equal", "reason": ""}
        >>> line = {"library": "timm", "name": "vgg11", "boundaries_in_all": 5}
        >>> print(summary([line | {"boundaries": [boundary]}]))
        1 models, 5 boundaries, 1 of them asked: equal 1
    """
    found = [(line, boundary) for line in lines for boundary in line.get("boundaries", ())]
    counts = Counter(boundary["result"] for _, boundary in found)
    in_all = sum(line.get("boundaries_in_all", 0) for line in lines)
    told = [
        f"{len(lines)} models, {in_all} boundaries, {len(found)} of them asked: "
        + ", ".join(f"{result} {count}" for result, count in counts.most_common())
    ]
    by_reason = defaultdict(list)
    for line in lines:
        name = f"{line['library']}:{line['name']}"
        if "boundaries" not in line:
            by_reason[line["status"], line["reason"]].append(name)
        for each in line.get("boundaries", ()):
            if each["result"] != "equal":
                by_reason[each["result"], each["reason"]].append(f"{name} {each['spec']}")
    for (result, reason), names in sorted(by_reason.items()):
        told.append(f"{result}: {reason}\n    {', '.join(names)}")
    return "\n".join(told)
