"""Training steps on features of a cache: what is predicted of them, and when they pay."""

from __future__ import annotations

import pytest
import torch

from freezekit.bench.memory import measured_figures
from freezekit.bench.pays import filling
from freezekit.bench.rows import take_rows
from freezekit.bench.static import static_figures
from freezekit.bench.workload import build
from freezekit.errors import CacheError
from freezekit.report.filling import filling_in_short
from freezekit.results.records import Filling, Raw, Result, Row, Workload

TINY = Workload("timm:test_resnet", batch_size=2, image_size=32)


@pytest.mark.parametrize(
    ("workload", "lean"),
    [(TINY, False), (TINY, True), (Workload("timm:test_vit", batch_size=2, amp="bfloat16"), False)],
)
def test_predictions_are_those_of_a_real_step(workload: Workload, lean: bool) -> None:
    spec = "first-n-stages:n=1"
    predicted = static_figures(workload, spec, lean=lean, cached=True).memory
    measured = measured_figures(workload, spec, lean=lean, cached=True)
    assert predicted.predicted_peak_bytes == measured.tracker_peak_bytes
    assert predicted.saved_activations_bytes == measured.saved_activations_bytes
    assert predicted.inputs_bytes == measured.inputs_bytes


def test_a_step_on_features_gives_the_loss_of_one_on_images() -> None:
    plain, cached = (build(TINY, "head-only") for _ in range(2))
    take_rows(cached)
    losses = []
    for session in (plain, cached):
        torch.manual_seed(0)
        losses.append(session.loss().item())
    assert losses[0] == losses[1]
    assert tuple(cached.inputs[0].shape) == (2, 96)


def test_the_prefix_alone_runs_to_fill() -> None:
    session = build(TINY, "first-n-stages:n=1")
    fill = take_rows(session)
    seen = []
    for name in ("layer1", "layer2"):
        module = session.model.get_submodule(name)
        module.register_forward_pre_hook(lambda *_, name=name: seen.append(name))
    fill()
    assert seen == ["layer1"]


def test_inputs_that_are_no_batches_are_refused() -> None:
    session = build(TINY, "head-only")
    session.inputs = ([torch.ones(3, 8, 8)],)
    with pytest.raises(CacheError, match="takes more than batches of tensors"):
        take_rows(session)


def timed(plain: float, cached: list[float], fill: float) -> Filling:
    def block(of_cached: float) -> list[dict[str, list[float]]]:
        rows = {"full": 4.0, "a": plain, "a [cache]": of_cached}
        return [{name: [9.0, seconds, seconds] for name, seconds in rows.items()}]

    raw = Raw(steps=[block(each) for each in cached], fill=[{"a [cache]": [9.0, fill, fill]}] * 3)
    found = filling(raw, "a [cache]", "a", batch_size=4, floor=0.02)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("cached", "fill", "verdict", "epochs"),
    [
        ([0.5, 0.5, 0.5], 1.4, "faster", 1),
        ([0.5, 0.5, 0.5], 1.5, "faster", 2),  # after one epoch, as much is saved as was paid
        ([1.9, 1.9, 1.9], 1.45, "faster", 15),
        ([1.5, 2.5, 1.6], 1.0, "no difference shown", None),
        ([1.97, 1.97, 1.97], 1.0, "no difference shown", None),  # within the noise floor
        ([2.5, 2.5, 2.5], 1.0, "slower", None),
    ],
)
def test_a_cache_pays_where_its_steps_are_shown_to_be_faster(
    cached: list[float], fill: float, verdict: str, epochs: int | None
) -> None:
    found = timed(2.0, cached, fill)
    assert (found.verdict, found.pays_after_epochs) == (verdict, epochs)
    assert found.fill_seconds_per_1000_samples == pytest.approx(250 * fill)


def test_a_cached_row_alone_tells_what_filling_takes() -> None:
    raw = Raw(steps=[[{"full": [1.0, 1.0]}]], fill=[{"a [cache]": [9.0, 0.5]}])
    found = filling(raw, "a [cache]", "a", batch_size=8, floor=None)
    assert found == Filling(62.5)
    assert filling(Raw(), "a [cache]", "a", batch_size=8, floor=None) is None


def test_several_caches_are_told_in_one_sentence() -> None:
    rows = (
        Row("a", cached=True, filling=timed(2.0, [0.5] * 3, 1.4)),
        Row("b", cached=True, filling=timed(2.0, [1.9] * 3, 1.45)),
        Row("c", cached=True, filling=timed(2.0, [2.5] * 3, 1.0)),
    )
    assert filling_in_short(Result("0.1.0", TINY, {}, rows)) == (
        "caches pay: a [cache] (after 1 epoch) and b [cache] (after 15 epochs); others are not "
        "shown to pay: c [cache]"
    )
    one = filling_in_short(Result("0.1.0", TINY, {}, rows[2:]))
    assert one is not None
    assert one.startswith("c [cache] does not pay: 1.25 [1.25, 1.25] of the step time on images; ")
