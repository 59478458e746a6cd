"""Freeze one real model, train it, and ask freezekit whether frozen was frozen."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

from benchmarks.zoo.models import MOST_PARAMETERS, ZooModel, build, build_small, example, room_for

if TYPE_CHECKING:
    from freezekit import Stage

STRATEGIES = (
    "batch-norm",
    "first-n-stages:n=2",
    "head-only",
    "by-name",
    "discriminative-lr:decay=0.5,freeze_below=0.1",
)
STEPS = 3


def examine(job: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the line of one model and one strategy: passed, failed, refused or skipped.

    Args:
        job: The fields of a `ZooModel`, and one of `STRATEGIES`.
    """
    from freezekit import Backbone, FreezekitError, freeze_

    started = time.perf_counter()
    line = dict(job)
    text = ZooModel(job["library"], job["name"], job["family"]).text
    try:
        count = sum(p.numel() for p in build(text).parameters())
        if count > MOST_PARAMETERS:
            reason = f"{count:,} parameters, more than {MOST_PARAMETERS:,}"
            return line | {"status": "skipped", "reason": reason}
        with room_for(count):
            model, inputs, line["image_size"] = build_small(text)
            given = example(model, inputs)
            line["spec"] = job["strategy"]
            if job["strategy"] == "by-name":
                line["spec"] = f"by-name:contains={_name(Backbone(model, given).body[0])}"
            try:
                frozen = freeze_(model, line["spec"], example_input=given)
            except FreezekitError as error:
                return line | {"status": "refused", "reason": f"{type(error).__name__}: {error}"}
            found = frozen.verify(inputs, steps=STEPS)
            del model, frozen
        failed = [[c.name, c.detail, list(c.offenders[:3])] for c in found.checks if not c.passed]
        line |= {"status": "passed" if found.passed else "failed", "checks": len(found.checks)}
        if failed:
            line["failed"] = failed
    except Exception as error:  # noqa: BLE001  # whatever a library's model raises
        line |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:500]}
    line["seconds"] = round(time.perf_counter() - started, 2)
    gc.collect()
    return line


def _name(stage: Stage) -> str:
    """Return a piece of a name that the parameters of a stage have in common, or the first has."""
    modules = [name.rpartition(".")[0].split(".") for name in stage.parameters]
    common = modules[0]
    for parts in modules:
        same = [a == b for a, b in zip(common, parts, strict=False)]
        common = common[: same.index(False) if False in same else len(same)]
    return ".".join(common or modules[0]) + "."
