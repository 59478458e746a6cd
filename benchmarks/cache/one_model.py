"""Train one model at every boundary, on images and on cached features, and compare all bits."""

from __future__ import annotations

import copy
import gc
import time
from typing import TYPE_CHECKING, Any

from benchmarks.zoo.models import MOST_PARAMETERS, ZooModel, build, build_small, example, room_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

STEPS, BATCH, SAMPLES = 20, 2, 8


def examine(job: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the line of one model, with the result at each of its boundaries.

    Args:
        job: The fields of a `ZooModel`.
    """
    started = time.perf_counter()
    line = dict(job)
    text = ZooModel(**job).text
    try:
        count = sum(p.numel() for p in build(text).parameters())
        if count > MOST_PARAMETERS:
            reason = f"{count:,} parameters, more than {MOST_PARAMETERS:,}"
            return line | {"status": "skipped", "reason": reason}
        with room_for(count):
            line |= {"status": "done", **_boundaries(text)}
    except Exception as error:  # noqa: BLE001  # whatever a library's model raises
        line |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:500]}
    line["seconds"] = round(time.perf_counter() - started, 2)
    gc.collect()
    return line


def _boundaries(text: str) -> dict[str, Any]:  # Any: JSON
    from freezekit import Backbone

    model, inputs, size = build_small(text)
    given = example(model, inputs)
    count = len(Backbone(model, given).body)
    specs = [f"first-n-stages:n={n}" for n in range(count)] + ["head-only"]
    found = [{"spec": spec, **_boundary(model, spec, inputs, given)} for spec in specs]
    return {"image_size": size, "boundaries": found}


def _boundary(
    made: nn.Module,
    spec: str,
    inputs: tuple[Any, ...],
    given: tuple[Any, ...] | None,
) -> dict[str, Any]:  # Any: a model's input; JSON
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from freezekit import FreezekitError, freeze_

    if len(inputs) != 1 or not isinstance(inputs[0], torch.Tensor):
        return {"result": "skipped", "reason": "takes more than one tensor"}
    shape = inputs[0].shape[1:]
    images = torch.randn(SAMPLES, *shape, generator=torch.Generator().manual_seed(0))
    found: list[tuple[list[float], list[Tensor]]] = []
    seconds = []
    cached = None
    for is_cached in (False, True):
        model = copy.deepcopy(made)
        try:
            frozen = freeze_(model, spec, example_input=given)
            dataset: Any = TensorDataset(images)
            if is_cached:
                dataset = cached = frozen.cache(dataset, BATCH)
        except FreezekitError as error:
            return {"result": "refused", "reason": f"{type(error).__name__}: {error}"[:300]}
        loader = DataLoader(dataset, BATCH)
        optimizer = torch.optim.SGD(frozen.param_groups(0.001), momentum=0.9)
        torch.manual_seed(1)
        started = time.perf_counter()
        found.append(_trained(model, optimizer, loader))
        seconds.append(time.perf_counter() - started)
    assert cached is not None
    (losses, weights), (cached_losses, cached_weights) = found
    same = all(torch.equal(a, b) for a, b in zip(weights, cached_weights, strict=True))
    facts = {
        "bytes_per_sample": cached.filled.bytes_per_sample,
        "cut": list(cached.filled.boundary),
        "seconds": [round(each, 2) for each in seconds],
    }
    if same and losses == cached_losses:
        return {"result": "equal", "reason": "", **facts}
    if any(loss != loss for loss in losses):
        return {
            "result": "not a number",
            "reason": "the training without a cache gives NaN",
            **facts,
        }
    step = next(
        (i for i, (a, b) in enumerate(zip(losses, cached_losses, strict=True)) if a != b), -1
    )
    return {"result": "differs", "reason": f"from step {step + 1} on", **facts}


def _trained(
    model: nn.Module, optimizer: Any, loader: Iterable[Any]
) -> tuple[list[float], list[Tensor]]:  # Any: torch's
    from freezekit.model.nested import tensors

    losses: list[float] = []
    model.train()
    while len(losses) < STEPS:
        for (given,) in loader:
            outputs = [t for t in tensors(model(given)) if t.requires_grad]
            loss = sum((t.float() - 1).square().mean() for t in outputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == STEPS:
                break
    values = [t.detach().clone() for t in (*model.parameters(), *model.buffers())]
    return losses, values
