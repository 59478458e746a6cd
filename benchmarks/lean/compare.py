"""Trains a stock and a lean copy of one model side by side, and reports every difference."""

from __future__ import annotations

import gc
import time
import traceback
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.lean.subject import Subject, seed, session, subject
from benchmarks.zoo.models import ZooModel, room_for
from freezekit import FreezekitError
from freezekit.bench.memory import traced_memory

if TYPE_CHECKING:
    from torch import Tensor

    from freezekit.bench.workload import Session

STEPS = 2
NAMES_SHOWN = 6

Line = dict[str, Any]  # Any: JSON


def examine(job: Line) -> Line:
    """Return the line of one model and one strategy: compared, refused or failed.

    A comparison that an error ended holds what was found before the error.

    Args:
        job: The fields of a `ZooModel`, and a strategy's spec.
    """
    started = time.perf_counter()
    line = dict(job)
    text = ZooModel(job["library"], job["name"], job["family"]).text
    try:
        of = subject(text)
        with room_for(sum(p.numel() for p in of.model.parameters())):
            _compare(of, line)
    except FreezekitError as error:
        line |= {"status": "refused", "reason": f"{type(error).__name__}: {error}"[:500]}
    except Exception as error:  # noqa: BLE001  # whatever a library's model raises
        line |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:500]}
        line["part"] = " ".join([line.get("part", "building"), *getattr(error, "__notes__", ())])
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        line["at"] = [f"{f.filename.rpartition('site-packages/')[2]}:{f.lineno}" for f in frames]
    line["seconds"] = round(time.perf_counter() - started, 2)
    gc.collect()
    return line


def _compare(of: Subject, line: Line) -> None:
    """Fill in the line step by step, so that a later error loses no finding."""
    line["image_size"] = of.image_size
    line["part"] = "freezing"
    stock, lean = (session(of, line["strategy"], lean=lean) for lean in (False, True))
    line["part"] = "training"
    different, line["blind"] = train(stock, lean)
    if different:
        line["differs"] = [[where, what] for where, what in sorted(different.items())][:NAMES_SHOWN]
        line["differ"] = len(different)
        again = (session(of, line["strategy"], lean=False) for _ in range(2))
        line["stock_differs_from_itself"] = len(train(*again)[0])
    line["exact"] = not different
    line["part"] = "memory"
    for name, side in (("stock", stock), ("lean", lean)):
        line[name] = _memory(side)
    del line["part"]
    line["status"] = "compared"


def train(one: Session, other: Session) -> tuple[dict[str, str], int]:
    """Train two copies side by side, from the same random state at each step.

    Returns:
        What differs, after which step, and how; and the number of parameters whose gradient is all
        zeros or not finite, so that the comparison says little about them.
    """
    different: dict[str, str] = {}
    blind = 0
    for step in range(STEPS):
        losses = [_step(side, step) for side in (one, other)]
        pairs = {"loss": (losses[0], losses[1]), **_pairs(one, other)}
        for name, (a, b) in pairs.items():
            if said := difference(a, b):
                different.setdefault(f"step {step}: {name}", said)
        gradients = [p.grad for p in one.model.parameters() if p.grad is not None]
        blind = sum(not bool(g.isfinite().all() and g.any()) for g in gradients)
    return different, blind


def _step(side: Session, step: int) -> Tensor:
    seed(step)
    side.optimizer.zero_grad(set_to_none=True)
    try:
        loss = side.loss()
        loss.backward()
    except Exception as error:
        error.add_note("lean" if side.frozen.lean else "stock")  # which copy raised
        raise
    side.optimizer.step()
    return loss.detach()


def _pairs(one: Session, other: Session) -> dict[str, tuple[Tensor | None, Tensor | None]]:
    """Return pairs of gradients and buffers of both copies, by name."""
    parameters, buffers = dict(other.model.named_parameters()), dict(other.model.named_buffers())
    return {
        **{f"grad {n}": (p.grad, parameters[n].grad) for n, p in one.model.named_parameters()},
        **{f"buffer {n}": (b, buffers[n]) for n, b in one.model.named_buffers()},
    }


def difference(a: Tensor | None, b: Tensor | None) -> str:
    """Describe how the bits of two tensors differ, "" where they are equal; all NaNs are equal.

    Example:
        >>> zero = torch.zeros(2)
        >>> difference(zero, zero + 0), difference(zero, -zero), difference(zero, None)
        ('', 'the sign of 2 zeros', 'one of them is None')
        >>> difference(zero, zero + 0.5)
        '2 of 2 by up to 0.5, where the largest is 0'
    """
    if a is None or b is None:
        return "" if a is b else "one of them is None"
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype} {tuple(a.shape)} is {b.dtype} {tuple(b.shape)}"
    if not a.is_floating_point():
        return "" if torch.equal(a, b) else f"{int((a != b).sum())} of {a.numel()} integers"
    unlike = (a != b) & ~(a.isnan() & b.isnan())
    if bool(unlike.any()):
        furthest, largest = (a - b)[unlike].abs().max().item(), a.abs().max().item()
        return f"{int(unlike.sum())} of {a.numel()} by up to {furthest:.3g}, " + (
            f"where the largest is {largest:.3g}"
        )
    signs = int((a.signbit() != b.signbit())[~a.isnan()].sum())
    return f"the sign of {signs} zeros" if signs else ""


def _memory(side: Session) -> dict[str, int | None]:
    seed(0)
    side.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    memory, _ = traced_memory(side)
    return {"saved": memory.saved_activations_bytes, "peak": memory.tracker_peak_bytes}
