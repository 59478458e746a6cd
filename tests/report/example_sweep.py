"""A sweep as one is computed from trials: figures like those of 308 photographs of 14 classes."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from msgspec.structs import replace

from freezekit.sweep.records import Candidate, Settings, Sweep, SweepRow
from freezekit.sweep.summary import with_figures
from freezekit.training.records import DataFacts, Epoch, Recipe, Trial

MODEL = "timm:efficientnet_lite0"
IMAGES, CLASSES, EPOCHS = 120, 14, 5
MIB = 2**20

# (strategy or schedule, accuracy, learning rate, seconds and GFLOP of an epoch, MiB)
MADE = (
    ("full", 0.84, 3e-4, 13.0, 210.0, 310),
    ("head-only", 0.82, 3e-3, 0.8, 9.0, 40),
    ("first-n-stages:n=2", 0.86, 1e-3, 7.9, 120.0, 160),
    ("discriminative-lr:decay=0.8", 0.85, 1e-3, 13.2, 210.0, 310),
    ("head-only then full at 20%", 0.88, 1e-3, 10.5, 170.0, 310),
)


def facts(**changes: Any) -> DataFacts:
    made = DataFacts(
        "photos",
        tuple(f"class {n}" for n in range(CLASSES)),
        188,
        IMAGES,
        "made",
        "0123456789abcdef",
        tuple(n % CLASSES for n in range(IMAGES)),
        0.4,
        0,
    )
    return replace(made, **changes)


def trial(
    recipe: Recipe, accuracy: float, seconds: float, gflop: float, mib: int, epochs: int = EPOCHS
) -> Trial:
    """Return a trial; images are hard or easy alike for all, as real ones are."""
    hardness = np.random.default_rng(7).uniform(size=IMAGES)
    noise = np.random.default_rng((recipe.seed, int(accuracy * 1000))).normal(0, 0.08, IMAGES)
    right = hardness + noise < accuracy
    curve = [float(right.mean()) * (1 - 0.6 * 0.4**n) for n in range(1, epochs)]
    curve.append(float(right.mean()))
    return Trial(
        recipe,
        "ok",
        lr=recipe.lr if isinstance(recipe.lr, float) else None,
        epochs=tuple(
            Epoch(
                n,
                2.6 / n,
                1e-4,
                {"accuracy": value, "balanced_accuracy": value, "loss": 2.5 / n},
                seconds * (1 + (0.02 + accuracy / 1000) * recipe.seed),
                1.0,
                int(gflop * 1e9),
            )
            for n, value in enumerate(curve, 1)
        ),
        peak_bytes=mib * MIB,
        correct=base64.b64encode(np.packbits(right).tobytes()).decode(),
    )


def row(at: int, seeds: int = 3, shift: float = 0.0, **changes: Any) -> SweepRow:
    text, accuracy, lr, seconds, gflop, mib = MADE[at]
    schedule = text if " then " in text else None
    strategy = text.partition(" then ")[0]
    recipe = Recipe(MODEL, strategy, EPOCHS, schedule, lr=lr)
    trials = tuple(
        trial(replace(recipe, seed=seed), accuracy + shift, seconds, gflop, mib)
        for seed in range(seeds)
    )
    made = SweepRow(
        Candidate(MODEL, strategy, schedule),
        text,
        text == "full",
        status="ok",
        trials=trials,
        lr=lr,
    )
    return replace(made, **changes)


def example(seeds: int = 3, shift: float = 0.0, **changes: Any) -> Sweep:
    """Return a sweep whose figures follow from its trials."""
    rows = tuple(row(at, seeds, shift) for at in range(len(MADE)))
    settings = Settings(EPOCHS, tuple(range(seeds)), lr_grid=(3e-4, 1e-3, 3e-3))
    env = {"torch": "2.14.1", "cpu": "a CPU", "command": "freezekit sweep timm:efficientnet_lite0"}
    made = Sweep("0.1.0", facts(), settings, env, rows, seconds=700.0, complete=True)
    return with_figures(replace(made, **changes))


def with_failures() -> Sweep:
    """Return a sweep with a row of each end that a candidate can have."""
    rows = list(example().rows)
    half = tuple(replace(one, status="stopped", epochs=one.epochs[:2]) for one in rows[3].trials)
    rows[3] = replace(rows[3], status="stopped", trials=half, stopped_at=2)
    failed = {
        "diverged": "the loss was NaN at step 12",
        "oom": "the process was ended by the kernel",
        "error": "PlanError: fraction has nothing to train",
        "running": None,
    }
    for status, error in failed.items():
        candidate = Candidate(MODEL, f"fraction:p=0.{len(rows)}")
        rows.append(SweepRow(candidate, candidate.label, status=status, error=error))  # type: ignore[arg-type]  # a status
    return example(rows=tuple(rows), complete=False, notes=("pilots were left out for the budget",))
