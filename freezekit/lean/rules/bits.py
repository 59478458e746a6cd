"""Functions whose gradient needs a bit of each element."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor

from freezekit.lean.bits import Question, is_dense
from freezekit.lean.bitwise import (
    HARDSIGMOID,
    RELU,
    Activation,
    can_run_bitwise,
    clipped,
    leaky_relu,
    run_bitwise,
)
from freezekit.lean.mode import Call, LeanMode, arguments, is_worth_it, needs_grad, plain
from freezekit.lean.saved_tensors import Kept, TwoValues

LEAST_BYTES = 1 << 14  # packing and unpacking take some tens of microseconds, however few they are


def relu(mode: LeanMode, call: Call) -> Any:  # Any: the function's own, here and below
    """Whether the output is positive."""
    given = arguments(call, "input", "inplace")
    return _activation(mode, call, given, RELU)


def relu6(mode: LeanMode, call: Call) -> Any:
    """Whether the input is between the bounds."""
    given = arguments(call, "input", "inplace")
    return _activation(mode, call, given, clipped(0.0, 6.0))


def hardtanh(mode: LeanMode, call: Call) -> Any:
    """Whether the input is between the bounds."""
    given = arguments(call, "input", "min_val", "max_val", "inplace")
    bounds = given.get("min_val", -1.0), given.get("max_val", 1.0)
    if not all(map(isfinite, bounds)):
        return plain(call)
    return _activation(mode, call, given, clipped(*bounds))


def leaky(mode: LeanMode, call: Call) -> Any:
    """Whether it is positive; of a change in place torch saves the output."""
    given = arguments(call, "input", "negative_slope", "inplace")
    slope = given.get("negative_slope", 0.01)
    if slope <= 0:
        return plain(call)
    return _activation(mode, call, given, leaky_relu(slope, of_input=not _in_place(call, given)))


def hardsigmoid(mode: LeanMode, call: Call) -> Any:
    """Whether the input is between the bounds."""
    given = arguments(call, "input", "inplace")
    return _activation(mode, call, given, HARDSIGMOID)


def dropout(mode: LeanMode, call: Call) -> Any:
    """Which elements are dropped."""
    given = arguments(call, "input", "p", "training", "inplace")
    image, p = given["input"], given.get("p", 0.5)
    drops = given.get("training", True) and 0 < p < 1
    if not drops or not needs_grad(image) or not is_worth_it(image):
        return mode.run(call) if mode.derivation(image) else plain(call)
    shape = image.shape

    def keep(tensor: Tensor) -> Kept:
        if tensor.shape != shape or not is_dense(tensor):
            return mode.keep(tensor)
        scale = 1.0
        if tensor.dtype != torch.bool:  # as torch rounds it
            scale = torch.tensor(1.0, dtype=tensor.dtype, device="cpu").div(1 - p).item()
        return TwoValues.of(tensor, Question(0.0, inf, zero=scale, one=0.0))

    return mode.run(call, keep)


def _activation(mode: LeanMode, call: Call, given: dict[str, Any], activation: Activation) -> Any:
    image, inplace = given["input"], _in_place(call, given)
    worth_it = is_worth_it(image) and image.nbytes >= LEAST_BYTES
    if not (worth_it and needs_grad(image) and can_run_bitwise(image, inplace=inplace)):
        return plain(call)
    return run_bitwise(mode.settling, image, activation, inplace=inplace)


def _in_place(call: Call, given: dict[str, Any]) -> bool:
    return bool(given.get("inplace", False)) or call[0].__name__.endswith("_")
