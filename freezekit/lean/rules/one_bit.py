"""Rules for functions whose gradient needs one bit of each element."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor

from freezekit.lean import bitwise
from freezekit.lean.bits import BitEncoding
from freezekit.lean.dense import is_dense
from freezekit.lean.mode import Call, LeanMode, arguments, is_eligible, needs_grad, run_as_is
from freezekit.lean.saved_tensors import SavedBits, SavedTensor

MIN_BYTES_FOR_BITS = 1 << 14
"""Packing and unpacking take some tens of microseconds even for few elements; below, they do not
pay."""


def relu(mode: LeanMode, call: Call) -> Any:  # Any: what the function returns, here and below
    """Save whether each element of the output is positive."""
    given = arguments(call, "input", "inplace")
    return _run(mode, call, given, bitwise.RELU)


def relu6(mode: LeanMode, call: Call) -> Any:
    """Save whether each element of the input is between the bounds."""
    given = arguments(call, "input", "inplace")
    return _run(mode, call, given, bitwise.hardtanh(0.0, 6.0))


def hardtanh(mode: LeanMode, call: Call) -> Any:
    """Save whether each element of the input is between the bounds, if these are finite."""
    given = arguments(call, "input", "min_val", "max_val", "inplace")
    bounds = given.get("min_val", -1.0), given.get("max_val", 1.0)
    if not all(map(isfinite, bounds)):
        return run_as_is(call)
    return _run(mode, call, given, bitwise.hardtanh(*bounds))


def leaky_relu(mode: LeanMode, call: Call) -> Any:
    """Save whether each element is positive, of the input; in place, of the output, as torch."""
    given = arguments(call, "input", "negative_slope", "inplace")
    slope = given.get("negative_slope", 0.01)
    if slope <= 0:
        return run_as_is(call)
    function = bitwise.leaky_relu(slope, saves_input=not _is_in_place(call, given))
    return _run(mode, call, given, function)


def hardsigmoid(mode: LeanMode, call: Call) -> Any:
    """Save whether each element of the input is between the bounds."""
    given = arguments(call, "input", "inplace")
    return _run(mode, call, given, bitwise.HARDSIGMOID)


def dropout(mode: LeanMode, call: Call) -> Any:
    """Save which elements are dropped."""
    given = arguments(call, "input", "p", "training", "inplace")
    image, p = given["input"], given.get("p", 0.5)
    training = given.get("training", given.get("train", True))  # `train` in torch.dropout
    drops = training and 0 < p < 1
    if not drops or not needs_grad(image) or not is_eligible(image):
        return mode.run(call) if mode.recomputation_of(image) else run_as_is(call)
    shape = image.shape

    def save(tensor: Tensor) -> SavedTensor:
        if tensor.shape != shape or not is_dense(tensor):
            return mode.save(tensor)
        scale = 1.0  # a mask of booleans
        if tensor.dtype != torch.bool:  # a mask of 0 and 1/(1-p), rounded as torch rounds it
            scale = torch.tensor(1.0, dtype=tensor.dtype, device="cpu").div(1 - p).item()
        return SavedBits.of(tensor, BitEncoding(0.0, inf, zero=scale, one=0.0))

    return mode.run(call, save)


def _run(
    mode: LeanMode, call: Call, given: dict[str, Any], function: bitwise.ActivationFunction
) -> Any:
    image, inplace = given["input"], _is_in_place(call, given)
    pays = is_eligible(image) and image.nbytes >= MIN_BYTES_FOR_BITS
    if not (pays and needs_grad(image) and bitwise.can_run_bitwise(image, inplace=inplace)):
        return run_as_is(call)
    return bitwise.run_bitwise(mode.deferred_packing, image, function, inplace=inplace)


def _is_in_place(call: Call, given: dict[str, Any]) -> bool:
    return bool(given.get("inplace", False)) or call[0].__name__.endswith("_")
