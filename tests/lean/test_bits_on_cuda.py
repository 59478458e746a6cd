"""The kernels for CUDA against the functions for the CPU: by Triton's interpreter, or for real."""

import os
import subprocess
import sys
from math import inf, nan

import pytest
import torch

from freezekit.lean.bits import bits_backward, pack_bits, unpack_bits

pytest.importorskip("triton")

QUESTIONS = [
    (0.0, inf, False),  # ReLU
    (0.0, 6.0, True),  # ReLU6
    (-3.0, 3.0, True),  # hard sigmoid
    (0.0, inf, True),  # leaky ReLU
    (-1.0, 1.0, False),
]
OPERATORS = [
    ("threshold_backward", (0.0,), 1.0, 0.0),
    ("hardtanh_backward", (0.0, 2.0), 0.0, 1.0),
    ("leaky_relu_backward", (0.01, 0.0), -1.0, 1.0),
    ("hardsigmoid_backward", (), 3.0, 0.0),
]
SIZES = [1, 7, 8, 9, 1000, 2048, 5001]
TYPES = [torch.float32, torch.float16, torch.bfloat16]
ODD = [nan, 0.0, -0.0, inf, -inf, 6.0, 3.0, -3.0, -1.0]


def values(size: int, dtype: torch.dtype) -> torch.Tensor:
    """Return random values of both signs, the first of them odd ones."""
    some = torch.randn(size, generator=torch.Generator().manual_seed(size)) * 4
    some[: len(ODD)] = torch.tensor(ODD[:size])
    return some.to(dtype)


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether two tensors have the same values, NaN and the signs of zeros included."""
    known = ~b.isnan()
    return torch.equal(a.isnan(), ~known) and torch.equal(
        torch.stack([a[known].float(), a[known].signbit().float()]),
        torch.stack([b[known].float(), b[known].signbit().float()]),
    )


def compare(device: str, types: list[torch.dtype]) -> None:
    """Hold every kernel against the CPU's function."""
    from freezekit.lean import bits_on_cuda as kernels

    for size in SIZES:
        for dtype in types:
            given = values(size, dtype)
            for low, high, inside in QUESTIONS:
                expected = pack_bits(given, low, high, inside=inside)
                packed = kernels.pack(given.to(device), low, high, inside).cpu()
                both = (unpack_bits(bits, size, 0.0, 1.0, dtype) for bits in (packed, expected))
                assert torch.equal(*both), (size, dtype, low, high, inside)
            on_device = expected.to(device)
            unpacked = kernels.unpack(on_device, size, 1.25, 0.0, dtype)
            assert torch.equal(unpacked.cpu(), unpack_bits(expected, size, 1.25, 0.0, dtype))
            for operator, numbers, zero, one in OPERATORS:
                grad = values(size, dtype).flip(0)
                out = kernels.backward(grad.to(device), on_device, zero, one, operator, numbers)
                known = bits_backward(grad, expected, zero, one, operator, numbers)
                assert alike(out.cpu(), known), (size, dtype, operator)
    mask = kernels.unpack(on_device, size, 1.0, 0.0, torch.bool)
    assert torch.equal(mask.cpu(), unpack_bits(expected, size, 1.0, 0.0, torch.bool))


@pytest.mark.gpu
def test_on_cuda():
    compare("cuda", TYPES)


def test_by_the_interpreter():
    code = (
        "import torch; from tests.lean.test_bits_on_cuda import compare;"
        "compare('cpu', [torch.float32, torch.float16])"  # it cuts bfloat16 off, and does not round
    )
    env = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
