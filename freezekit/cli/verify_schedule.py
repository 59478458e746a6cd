"""`freezekit verify --schedule`: in this process, or in several that it starts."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import textwrap
import warnings
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import click

from freezekit import errors
from freezekit.cli.own_code import no_exit
from freezekit.cli.verified_model import build, loss_of
from freezekit.errors import FreezeError, FreezekitError, FreezekitWarning
from freezekit.results.lean_text import LeanChoice, lean_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from freezekit.plugins.registry import Registry
    from freezekit.verify import ScheduleVerification

WORKER = "freezekit.cli.verify_rank"
"""The module of a rank. Here nothing of torch is imported with `--nproc`."""


@dataclass(frozen=True)
class Asked:
    """What was asked on the command line: its options by their names, and the model as text."""

    model: str
    schedule: str
    lean: LeanChoice
    epochs: int | None
    steps_per_epoch: int
    loss: str | None
    seed: int
    device: str
    batch_size: int
    image_size: int | None
    num_classes: int | None
    pretrained: bool
    block: tuple[str, ...]


def verify_schedule(asked: Asked, registry: Registry, nproc: int | None, *, as_json: bool) -> bool:
    """Verify a schedule, print what was found, and return whether all checks passed.

    Raises:
        FreezekitError: The schedule cannot be followed, or a rank failed.
    """
    from rich.console import Console

    text = str(registry.schedule(asked.schedule))  # before the model: a misspelt one fails at once
    with (
        Console(stderr=True).status(f"building {asked.model}") as status,  # on a terminal only
        no_exit(asked.model),
        redirect_stdout(sys.stderr),  # what the user's code prints is not part of the answer
    ):

        def tell(now: str) -> None:
            status.update(f"verifying {asked.model}: {now}")

        if nproc is None:
            found, warned = verify_here(asked, registry, tell)
        else:
            found, warned = _on_ranks(asked, nproc, tell)
    if as_json:
        steps = sum(phase.steps for phase in found.phases)
        said = {"model": asked.model, "schedule": text, "lean": asked.lean, "nproc": nproc or 1}
        said |= {"epochs": steps // asked.steps_per_epoch}
        said |= {"steps_per_epoch": asked.steps_per_epoch, **json.loads(found.to_json())}
        click.echo(json.dumps(said, indent=2))
    else:
        lean = f" [{lean_name(asked.lean)}]" if asked.lean else ""
        lines = [f"{asked.model}{lean}", *textwrap.wrap(text, 80)]
        click.echo("\n".join([*lines, "", str(found)]))
    for warning in warned:
        click.echo(f"warning: {warning}", err=True)
    return found.passed


def verify_here(
    asked: Asked, registry: Registry, tell: Callable[[str], object], rank: int = 0
) -> tuple[ScheduleVerification, list[str]]:
    """Verify in this process; return what was found, and the warnings about plans.

    Args:
        asked: What was asked.
        registry: The schedules and strategies.
        tell: Takes what is done now, in words.
        rank: Of this process: each has its own data.

    Raises:
        FreezekitError: As `Frozen.verify_schedule`.
    """
    from freezekit.backbone.staged import on_own_size_or
    from freezekit.freezing.plan import FreezePlan
    from freezekit.handle.freeze import freeze_
    from freezekit.verify.schedule import verify_schedule

    model, inputs = build(
        asked.model,
        seed=asked.seed,
        device=asked.device,
        batch_size=asked.batch_size,
        image_size=asked.image_size,
        num_classes=asked.num_classes,
        pretrained=asked.pretrained,
        rank=rank,
    )
    loss = loss_of(model, asked.loss)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FreezekitWarning)
        frozen = on_own_size_or(
            inputs,
            lambda example: freeze_(
                model, FreezePlan(), lean=asked.lean, example_input=example, registry=registry
            ),
        )
        found = verify_schedule(
            frozen.backbone,
            registry.schedule(asked.schedule),
            registry,
            inputs,
            epochs=asked.epochs,
            steps_per_epoch=asked.steps_per_epoch,
            loss=loss,
            tell=tell,
        )
    told = dict.fromkeys(str(w.message) for w in caught if w.category is FreezekitWarning)
    for other in (w for w in caught if w.category is not FreezekitWarning):
        warnings.showwarning(other.message, other.category, other.filename, other.lineno)
    return found, list(told)


def _on_ranks(
    asked: Asked, nproc: int, tell: Callable[[str], object]
) -> tuple[ScheduleVerification, list[str]]:
    """Verify in several processes. Whatever happens, none is left when this returns or raises.

    Raises:
        FreezekitError: A rank failed or died. The message is its own.
    """
    from freezekit.bench.processes import Workers

    tell(f"starting {nproc} processes")
    results: dict[str, Mapping[str, object]] = {}
    with tempfile.TemporaryDirectory() as folder, Workers() as workers:
        jobs = {
            f"rank {rank}": {
                "worker": WORKER,
                "process": f"the process that measures {asked.model}",
                "kind": "verify",
                "workload": {"model": asked.model},
                "threads": max(1, (os.cpu_count() or 1) // nproc),
                "asked": asdict(asked),
                "rank": rank,
                "ranks": nproc,
                "store": os.path.join(folder, "store"),  # noqa: PTH118  # JSON holds text
            }
            for rank in range(nproc)
        }
        for event in workers.events_of_all(jobs, nproc):
            if event["event"] == "progress":
                tell(f"{nproc} processes, {event['now']}")
            elif event["event"] == "found":
                results[event["label"]] = event
            else:
                raise _failure(event, asked.model)
    found = {label: _read(event["found"]) for label, event in results.items()}
    warned = results["rank 0"]["warned"]
    assert isinstance(warned, list)
    return _merged(found), warned


def _failure(event: Mapping[str, str], model: str) -> FreezekitError:
    """Return the error of a rank that failed, or that ended before its work was done."""
    said = event["error"].removeprefix(f"the process that measures {model} ")
    if event["event"] == "failed":
        kind = getattr(errors, event["kind"], FreezeError)
        error: FreezekitError = kind(f"{event['label']}: {said}")
        return error
    return FreezeError(f"{event['label']} {said}; all other ranks were ended")


def _read(text: object) -> ScheduleVerification:
    """Return what a rank found, from its JSON."""
    import msgspec

    from freezekit.verify import ScheduleVerification

    data = json.loads(str(text))
    del data["passed"]  # it follows from the checks
    return msgspec.convert(data, ScheduleVerification)


def _merged(found: Mapping[str, ScheduleVerification]) -> ScheduleVerification:
    """Return what the first rank found, and what failed on another one only."""
    first = found["rank 0"]
    checks = {check.name: check for check in first.checks}
    for label, other in sorted(found.items()):
        for check in other.checks:
            if not check.passed and checks[check.name].passed:
                checks[check.name] = replace(check, detail=f"on {label}: {check.detail}")
    return replace(first, checks=tuple(checks.values()))
