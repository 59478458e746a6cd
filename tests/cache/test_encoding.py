"""Features in fewer bytes: what is lost is measured, and told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from freezekit import CacheError, freeze_
from freezekit.cache.encoding import BLOCK, Encoding
from tests.cache.test_cached_training import BATCH, Branches, data


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8), (torch.int8, 0.5 / 127)]
)
@pytest.mark.parametrize("numbers", [1, BLOCK, 3 * BLOCK + 5])
def test_numbers_come_back_within_half_a_unit(
    dtype: torch.dtype, error: float, numbers: int
) -> None:
    encoding = Encoding(dtype, torch.float32, numbers)
    rows = torch.randn(7, numbers)
    rows[3] = 0
    stored = encoding.encode(rows)
    assert stored.shape == (7, encoding.width)
    assert stored.dtype == dtype
    assert encoding.row_bytes * 7 == stored.numel() * stored.element_size()
    back = encoding.decode(stored)
    assert back.dtype == torch.float32
    for row, found in zip(rows.split(1), back.split(1), strict=True):
        for block, other in zip(row.split(BLOCK, 1), found.split(BLOCK, 1), strict=True):
            assert (block - other).abs().max() <= error * block.abs().max() * 1.001


def test_what_is_lost_is_told() -> None:
    frozen = freeze_(Branches(), "head-only")
    exact = frozen.cache(data(), BATCH).filled
    assert (exact.feature_error, exact.output_error) == (0, 0)
    for dtype, most in ((torch.float16, 1e-3), (torch.bfloat16, 8e-3), (torch.int8, 5e-3)):
        filled = frozen.cache(data(), BATCH, dtype=dtype).filled
        assert 0 < filled.feature_error < most
        assert 0 < filled.output_error < 10 * most
        assert filled.bytes_per_sample < exact.bytes_per_sample
        assert f"{str(dtype)[6:]} moves a feature by up to" in str(filled)


def test_another_batch_size_is_compared_on_the_same_samples() -> None:
    """There are more samples than in a batch: so few and so many, from all over, are others."""
    filled = freeze_(Branches(), "head-only").cache(data(), 4).filled
    assert filled.size_error < 1e-5, "rounding alone"


@pytest.mark.parametrize("folder", [False, True])
def test_a_model_trains_on_bytes(folder: bool, tmp_path: Any) -> None:
    model = Branches()
    frozen = freeze_(model, "head-only")
    cached = frozen.cache(data(), BATCH, dtype=torch.int8, folder=tmp_path if folder else None)
    features, _ = next(iter(DataLoader(cached, BATCH)))
    assert features.dtype == torch.int8
    model.eval()
    images = next(iter(DataLoader(data(), BATCH)))[0]
    torch.testing.assert_close(model(features)[0], model(images)[0], rtol=0.05, atol=0.01)


def test_features_that_a_type_cannot_hold_are_refused() -> None:
    model = Branches()
    with torch.no_grad():
        model.stem[0].weight.mul_(1e9)
        model.stem[1].running_var.fill_(1)
        model.eval()
    frozen = freeze_(model, "head-only")
    with pytest.raises(CacheError, match=r"torch.float16 cannot hold features as large as .*e\+"):
        frozen.cache(data(), BATCH, dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.int32, "float16"])
def test_other_types_are_refused(dtype: Any) -> None:
    with pytest.raises(CacheError, match=r"expected one of .*, or None for the type"):
        freeze_(Branches(), "head-only").cache(data(), BATCH, dtype=dtype)
