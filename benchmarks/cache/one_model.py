"""Train one model at its boundaries, on images and on cached features, and compare all bits."""

from __future__ import annotations

import copy
import gc
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.zoo.models import MOST_PARAMETERS, ZooModel, build, build_small, example, room_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn

STEPS, BATCH, SAMPLES = 20, 2, 8

MOST_BOUNDARIES = 6
"""Of a model: the first, the last, and others evenly between."""

LEARNING_RATE, MOST_NORM = 0.01, 1.0
"""Gradients are clipped to a norm: with random weights, features of some models are very large."""


class Examined(NamedTuple):
    """What is trained: a model, and the data that it takes."""

    model: nn.Module
    dataset: Any  # Any: a torch data set
    call: Callable[[nn.Module, Any], Any] | None  # Any: a batch


def examine(job: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Return the line of one model, with the result at each of its boundaries.

    Args:
        job: The fields of a `ZooModel`; "most_seconds" of the CPU, after which the boundaries that
            have not begun are left. The last and the first begin first, then those with the fewest
            stages to train.
    """
    started = time.process_time()
    line = dict(job)
    text = ZooModel(job["library"], job["name"], job["family"]).text
    try:
        count = sum(p.numel() for p in build(text).parameters())
        if count > MOST_PARAMETERS:
            reason = f"{count:,} parameters, more than {MOST_PARAMETERS:,}"
            return line | {"status": "skipped", "reason": reason}
        with room_for(count):
            line |= {"status": "done", **_boundaries(text, job["most_seconds"])}
    except Exception as error:  # noqa: BLE001  # whatever a library's model raises
        line |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"[:500]}
    line["seconds"] = round(time.process_time() - started, 2)
    gc.collect()
    return line


def _boundaries(text: str, most_seconds: float) -> dict[str, Any]:  # Any: JSON
    from freezekit import Backbone

    made, inputs, size = build_small(text)
    given = example(made, inputs)
    backbone = Backbone(made, given)
    specs = specs_of([stage.kind for stage in backbone.stages])
    chosen = sampled(specs, MOST_BOUNDARIES)
    examined = Examined(made, *_data(inputs))
    _settle(made, inputs)
    found = {}
    ends = time.process_time() + most_seconds
    for spec in dict.fromkeys((chosen[-1], chosen[0], *reversed(chosen))):
        if time.process_time() > ends:
            found[spec] = {"result": "left", "reason": "for time"}
            continue
        began = time.process_time()
        found[spec] = _boundary(examined, backbone, spec)
        found[spec]["seconds"] = round(time.process_time() - began, 1)
    boundaries = [{"spec": spec, **found[spec]} for spec in chosen]
    return {"image_size": size, "boundaries_in_all": len(specs), "boundaries": boundaries}


def specs_of(kinds: Sequence[str]) -> list[str]:
    """Return the specs that freeze a prefix, the fewest stages first.

    Args:
        kinds: Of the stages of a model, in their order.

    Example:
        >>> specs_of(["stem", "body", "neck", "head"])
        ['first-n-stages:n=0', 'first-n-stages:n=1', 'head-only']
    """
    bodies = kinds.count("body") + (1 if "neck" in kinds else 0)
    return [f"first-n-stages:n={n}" for n in range(bodies)] + ["head-only"]


def sampled(specs: Sequence[str], most: int) -> list[str]:
    """Return the first, the last, and others evenly between.

    Example:
        >>> "".join(sampled("abcdefghijk", 6)), "".join(sampled("abc", 6))
        ('acegik', 'abc')
    """
    if len(specs) <= most:
        return list(specs)
    return [specs[round(i * (len(specs) - 1) / (most - 1))] for i in range(most)]


def _settle(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    """Give norms the statistics of a batch, as a trained model has. Any: a model's input.

    With those of a new model, features overflow where many of these norms follow one another.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(*inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _data(inputs: tuple[Any, ...]) -> tuple[Any, Callable[[nn.Module, Any], Any] | None]:
    """Return a data set for a model, and how a batch of it is given to the model.

    Any: as torch's data sets, and as the model takes it.
    """
    import torch
    from torch.utils.data import TensorDataset

    source = torch.Generator().manual_seed(0)
    if isinstance(inputs[0], list):  # detection: images and targets in lists
        images, targets = inputs
        drawn = [torch.randn(images[0].shape, generator=source) for _ in range(SAMPLES)]
        dataset = [(image, targets[i % len(targets)]) for i, image in enumerate(drawn)]

        def detect(model: nn.Module, batch: Any) -> Any:
            images, targets = batch
            each = [{k: v[i] for k, v in targets.items()} for i in range(len(images))]
            return model(list(images), each)

        return dataset, detect
    values = [torch.randn(SAMPLES, *t.shape[1:], generator=source) for t in inputs]
    return TensorDataset(*values), lambda model, batch: model(*batch)


def _boundary(examined: Examined, backbone: Any, spec: str) -> dict[str, Any]:
    """Train at one boundary. Any: a `Backbone` of the same model; JSON."""
    import torch
    from torch.utils.data import DataLoader

    from freezekit import FreezekitError, freeze_, plan

    try:
        decided = plan(backbone, spec)
    except FreezekitError as error:
        return {"result": "no plan", "reason": f"{type(error).__name__}: {error}"[:400]}
    model = copy.deepcopy(examined.model)
    frozen = freeze_(model, decided)
    dataset, call = examined.dataset, examined.call
    try:
        cached = frozen.cache(dataset, BATCH, call=call)
    except FreezekitError as error:
        return {"result": "refused", "reason": f"{type(error).__name__}: {error}"[:400]}
    facts = {
        "cut": list(cached.filled.boundary),
        "bytes_per_sample": cached.filled.bytes_per_sample,
    }
    with_cache = _trained(model, frozen, DataLoader(cached, BATCH), call)
    model = copy.deepcopy(examined.model)
    frozen = freeze_(model, decided)
    without = _trained(model, frozen, DataLoader(dataset, BATCH), call)
    if any(loss != loss for loss in without.losses):
        return {"result": "not a number", "reason": "training without a cache gives NaN", **facts}
    if without.losses != with_cache.losses:
        pairs = enumerate(zip(without.losses, with_cache.losses, strict=True), 1)
        step = next(i for i, (a, b) in pairs if a != b)
        return {"result": "differs", "reason": f"the loss of step {step}", **facts}
    pairs = zip(without.values.items(), with_cache.values.values(), strict=True)
    others = [name for (name, a), b in pairs if not torch.equal(a, b)]
    if others:
        reason = f"{len(others)} weights or buffers, such as {others[0]}"
        return {"result": "differs", "reason": reason, **facts}
    return {"result": "equal", "reason": "", "last_loss": without.losses[-1], **facts}


class _Trained(NamedTuple):
    losses: list[float]
    values: dict[str, Tensor]


def _trained(
    model: nn.Module,
    frozen: Any,
    loader: Iterable[Any],
    call: Callable[[nn.Module, Any], Any] | None,
) -> _Trained:
    """Train some steps from one random state. Any: a `Frozen`; a batch."""
    import torch

    from freezekit.model.nested import tensors

    optimizer = torch.optim.SGD(frozen.param_groups(LEARNING_RATE), momentum=0.9)
    weights = [p for p in model.parameters() if p.requires_grad]
    torch.manual_seed(1)
    losses: list[float] = []
    model.train()
    while len(losses) < STEPS:
        for batch in loader:
            out = call(model, batch) if call else model(batch)
            trained = [t for t in tensors(out) if t.requires_grad]
            loss = torch.stack([(t.float() - 1).square().mean() for t in trained]).sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, MOST_NORM)
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == STEPS:
                break
    named = (*model.named_parameters(), *model.named_buffers())
    return _Trained(losses, {name: value.detach() for name, value in named})
