"""Handmade results: figures like those of resnet18 at batch 8 and 128 pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from freezekit.results.records import (
    Control,
    Flops,
    Memory,
    Parameters,
    Plugin,
    Raw,
    Result,
    Row,
    StepSeconds,
    Time,
    Verdict,
    Workload,
)

MIB = 2**20
TOTAL = 11_689_512
STEPS = {"full": 0.2123, "batch-norm": 0.2101, "first-n-stages:n=2": 0.143}

MakeRow = Callable[..., Row]
MakeResult = Callable[..., Result]


def _time(
    median: float, ratio: float, ci: tuple[float, float], verdict: Verdict = "no difference shown"
) -> Time:
    return Time(StepSeconds(median, median * 0.95, median * 1.2), ratio, ci, verdict)


def _row(
    strategy: str,
    *,
    trainable: int = TOTAL,
    peak: float = 242.0,
    saved: float = 54.1,
    gradients: float = 44.6,
    flops: tuple[int, int] = (11_600_000_000, 22_500_000_000),
    time: Time | None = None,
    **fields: Any,  # Any: whatever Row takes
) -> Row:
    memory = Memory(
        peak_bytes=int(peak * MIB),
        peak_method="measured",
        predicted_peak_bytes=int((peak - 8) * MIB),
        tracker_peak_bytes=int((peak - 8) * MIB),
        parameters_bytes=int(44.6 * MIB),
        buffers_bytes=int(0.04 * MIB),
        inputs_bytes=int(1.5 * MIB),
        gradients_bytes=int(gradients * MIB),
        optimizer_bytes=int(gradients * MIB),
        saved_activations_bytes=int(saved * MIB),
        workspace_bytes=8 * MIB,
        process_bytes=900 * MIB,
    )
    made = Row(
        strategy,
        plugin=Plugin(strategy.partition(":")[0], "freezekit", "0.1.0"),
        parameters=Parameters(TOTAL, trainable, f"digest of {trainable}"),
        memory=memory,
        flops=Flops(*flops),
        time=time,
    )
    return replace(made, **fields)


def _rows() -> tuple[Row, ...]:
    return (
        _row("full", time=_time(0.2123, 1.0, (1.0, 1.0), "baseline")),
        _row(
            "head-only",
            trainable=513_000,
            peak=80.0,
            saved=0.05,
            gradients=2.0,
            flops=(11_600_000_000, 8_200_000),
            time=_time(0.0612, 0.288, (0.281, 0.296), "faster"),
        ),
        _row(
            "by-name:contains=bn",
            trainable=TOTAL - 7_808,
            peak=241.9,
            time=_time(0.2136, 1.006, (0.991, 1.021)),
            warnings=("the pattern looks like a norm's and misses 3 of 20: layer2.0.downsample.1",),
        ),
        _row(
            "batch-norm",
            trainable=TOTAL - 9_600,
            peak=241.8,
            saved=54.0,
            time=_time(0.2101, 0.99, (0.97, 1.01)),
        ),
        _row(
            "first-n-stages:n=2",
            trainable=TOTAL - 683_072,
            peak=201.0,
            saved=23.1,
            flops=(11_600_000_000, 5_600_000_000),
            time=_time(0.143, 0.68, (0.66, 0.71), "faster"),
        ),
        _row("discriminative-lr:decay=0.8", time=_time(0.2192, 1.03, (0.99, 1.07))),
        _row(
            "first-n-stages:n=2 + discriminative-lr:decay=0.8,freeze_below=0.1",
            trainable=TOTAL - 683_072,
            peak=201.0,
            saved=23.1,
            flops=(11_600_000_000, 20_000_000_000),
            time=_time(0.209, 0.985, (0.95, 1.02)),
        ),
    )


@pytest.fixture
def make_row() -> MakeRow:
    """Return a maker of rows with every figure, and a baseline's time where `time` is unsaid."""
    return _row


@pytest.fixture
def make_time() -> Callable[..., Time]:
    """Return a maker of times: median seconds, ratio, interval, verdict."""
    return _time


@pytest.fixture
def make_result() -> MakeResult:
    """Return a maker of whole results of seven strategies; each field can be given."""

    def make(**fields: Any) -> Result:  # Any: whatever Result takes
        names = [row.strategy for row in _rows()]
        turns = {name: [0.3, 0.2, 0.21] for name in [*names, "control"]}
        whole = Result(
            freezekit="0.1.0",
            workload=Workload(
                "torchvision:resnet18",
                image_size=128,
                input_shape=(8, 3, 128, 128),
                loss_text="cross-entropy of the logits against random classes",
            ),
            env={"torch": "2.15.0", "threads": 2, "platform": "Linux", "load_before": [0.1, 0.2]},
            rows=_rows(),
            control=Control(1.008, (0.991, 1.025)),
            raw=Raw([[[*turns]]], [[turns]], [{name: [0.4] for name in turns}]),
            timing_design={"blocks": 8, "rounds": 3, "cut": None},
            complete=True,
        )
        return replace(whole, **fields)

    return make
