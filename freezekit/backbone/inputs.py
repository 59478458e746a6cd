"""What to feed a model whose stages are to be observed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from freezekit.backbone.trace import Trace, meta_copy, on_device, real_copy, trace_forward
from freezekit.errors import StagingError

SIZES = (224, 256, 384, 32, 28, 64, 96, 128, 299, 512)
"""Image sizes tried, most usual first, on a model that does not say which it takes."""


def observe(model: nn.Module, example_input: Any = None) -> Trace:
    """Trace one forward of a copy of the model, on `meta` if that works.

    Args:
        model: The model; it is not touched.
        example_input: What its forward takes (a tuple: several arguments; a dict: keywords). None:
            images of the size that the model names, else of the usual sizes in turn.

    Raises:
        StagingError: The model refuses the input, or all that were tried.

    Example:
        >>> seen = observe(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(2704, 10)))
        >>> seen.calls[0].area_in == 28 * 28
        True
    """
    if example_input is not None:
        candidates = [example_input]
    else:
        candidates = [_image(model, shape) for shape in _shapes(model)]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            copied = meta_copy(model)
        except Exception as error:
            raise StagingError(
                f"{type(model).__name__} cannot be copied to be observed "
                f"({type(error).__name__}: {error}); name its stages with a plugin's "
                "freezekit_stages hook"
            ) from error
        errors: list[Exception] = []
        for candidate in candidates:
            try:
                return trace_forward(copied, on_device(candidate, torch.device("meta")))
            except Exception as error:  # noqa: BLE001  # a model's forward may raise anything
                errors.append(error)
        if _needs_data(errors[0]) and device.type != "meta":
            try:
                return trace_forward(real_copy(model), on_device(candidates[0], device))
            except Exception as error:  # noqa: BLE001
                errors.insert(0, error)
    refusal = _refusal(model, candidates, example_input is not None, errors[0])
    raise StagingError(refusal) from errors[0]


def _shapes(model: nn.Module) -> list[tuple[int, ...]]:
    convolution = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    channels = dict.fromkeys([convolution.in_channels if convolution is not None else 3, 3, 1])
    sizes: list[tuple[int, ...]] = [(size, size) for size in SIZES]
    said = getattr(model, "image_size", None)
    if isinstance(said, int):
        sizes = [(said, said)]
    for holder in ("pretrained_cfg", "default_cfg"):
        shape = getattr(getattr(model, holder, None), "get", lambda _: None)("input_size")
        if shape:
            sizes = [tuple(shape[1:])]
            channels = dict.fromkeys([int(shape[0]), *channels])
            break
    built_for = (getattr(module, "img_size", None) for module in model.modules())  # timm's way
    told = next((size for size in built_for if isinstance(size, tuple) and len(size) == 2), None)
    if told and told not in sizes:
        sizes.insert(0, told)
    return [(count, *size) for count in channels for size in sizes]


def _image(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return torch.empty(2, *shape, dtype=next(floats, torch.float32), device="meta")


def _needs_data(error: Exception) -> bool:
    """Tell whether a forward failed for want of values, and not for want of the right shape."""
    text = str(error).lower()
    return isinstance(error, NotImplementedError) or "meta" in text or "data-dependent" in text


def _refusal(model: nn.Module, candidates: list[Any], given: bool, error: Exception) -> str:
    said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    name = type(model).__name__
    advice = (
        "an example_input that it takes (a tensor; a tuple of several arguments; a dict of keyword "
        "arguments), or name its stages with a plugin's freezekit_stages hook"
    )
    if given:
        return f"{name} refuses the example_input that it was given: {said!r}; pass {advice}"
    sizes = "/".join(str(size) for size in dict.fromkeys(image.shape[-1] for image in candidates))
    shape = tuple(candidates[0].shape)
    return f"{name} refuses images of {sizes} pixels; of shape {shape}: {said!r}; pass {advice}"
