"""Observing a model: which inputs are tried, on which copy of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from freezekit.errors import StagingError, some
from freezekit.model.copies import hooks_left_out, meta_copy, on_device, real_copy
from freezekit.model.modes import in_mode
from freezekit.model.nested import shapes_text
from freezekit.model.out_of_memory import is_out_of_memory
from freezekit.model.outside import caches_kept
from freezekit.model.tasks import (
    FRAMES,
    default_image_size,
    input_shape,
    make_inputs,
    own_input,
    task_of,
)
from freezekit.staging.trace import Trace, trace_forward

SIZES = (224, 256, 384, 32, 28, 64, 96, 128, 299, 512)
"""Image sizes tried, most usual first, on a model that does not say which it takes."""


def observe(
    model: nn.Module,
    example_input: Any = None,  # Any: whatever the model's forward takes
    *,
    training: bool = False,
) -> Trace:
    """Trace one forward of a copy of the model: on `meta` if that works, else for real.

    Args:
        model: The model; it is not touched.
        example_input: What its forward takes (a tuple: several arguments; a dict: keywords). None:
            what its kind of model takes, in the size that the model names, or else in usual sizes.
        training: Run it in train mode.

    Raises:
        StagingError: The model refuses the input, or all that were tried.

    Example:
        >>> seen = observe(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(2704, 10)))
        >>> seen.calls[0].input.grid
        (28, 28)
    """
    return observe_input(model, example_input, training=training)[0]


def usual_input(
    model: nn.Module, *, training: bool, image_size: int | None = None
) -> Any:  # Any: what the model's forward takes
    """Return the first of the usual random inputs that the model takes in train or eval mode.

    Args:
        model: The model; it is not touched.
        training: Run it in train mode.
        image_size: The only size that is tried, in pixels; None for the usual ones.

    Raises:
        StagingError: It refuses all of them.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(2704, 10))
        >>> [image.shape for image in usual_input(model, training=True)]
        [torch.Size([2, 1, 28, 28])]
    """
    return observe_input(model, training=training, image_size=image_size)[1]


def observe_input(
    model: nn.Module,
    example_input: Any = None,  # Any: whatever the model's forward takes
    *,
    training: bool = False,
    image_size: int | None = None,
) -> tuple[Trace, Any]:
    """Trace one forward as `observe` does; return what was seen, and with which input.

    Raises:
        StagingError: The model refuses the input, or all that were tried.
    """
    given = example_input is not None
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    forked = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with forked, caches_kept(model):
        candidates = [example_input] if given else _candidates(model, training, image_size)
        try:
            copied = in_mode(meta_copy(model), training=training)
        except Exception as error:
            raise StagingError(
                f"{type(model).__name__} cannot be copied to be observed "
                f"({type(error).__name__}: {error}); name its stages with a plugin's "
                "freezekit_stages hook"
            ) from error
        errors: list[Exception] = []
        for candidate in candidates:
            try:
                return trace_forward(copied, on_device(candidate, torch.device("meta"))), candidate
            except Exception as error:  # noqa: BLE001  # a model's forward may raise anything
                errors.append(error)
        if any(map(_needs_data, errors)):
            errors = []
            real = device if device.type != "meta" else torch.device("cpu")
            for candidate in candidates:
                try:
                    copied = in_mode(real_copy(model), training=training)
                    return trace_forward(copied, on_device(candidate, real)), candidate
                except Exception as error:  # noqa: BLE001
                    if is_out_of_memory(error):
                        errors = [error]
                        break
                    errors.append(error)
    raise StagingError(_refusal(model, candidates, given, errors[0])) from errors[0]


def _candidates(model: nn.Module, training: bool, image_size: int | None) -> list[Any]:
    """Return inputs to try: of two samples, or of one for detection, which needs values."""
    task = task_of(model)
    if own_input(model) is not None:
        size = image_size or default_image_size(model)
        return [make_inputs(model, input_shape(model, 2, size))]
    if task == "image":
        shapes = _shapes(model, image_size)
    elif task == "video":
        said = default_image_size(model)
        sizes = dict.fromkeys([image_size] if image_size else [said, 224, 112])
        shapes = [(3, FRAMES, size, size) for size in sizes]
    else:
        shapes = [(3, size, size) for size in ([image_size] if image_size else (224, 256, 384))]
    samples = 1 if task == "detection" else 2
    candidates = []
    with torch.device("cpu"):
        for shape in shapes:
            arguments = make_inputs(model, (samples, *shape))
            if task == "detection" and not training:
                arguments = arguments[:1]
            candidates.append(arguments)
    return candidates


def _shapes(model: nn.Module, image_size: int | None) -> list[tuple[int, ...]]:
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
    if not told and len(sizes) > 1 and (configured := _configured_size(model)):
        sizes = list(dict.fromkeys([configured, *sizes]))
    if image_size:
        sizes = [(image_size, image_size)]
    return [(count, *size) for count in channels for size in sizes]


def _configured_size(model: nn.Module) -> tuple[int, int] | None:
    """Return the image size in a configuration of the model or of a part, in transformers' way."""
    for module in model.modules():
        for holder in (module, getattr(module, "config", None)):
            said = getattr(holder, "image_size", None)
            size = (said, said) if isinstance(said, int) else said
            if isinstance(size, (tuple, list)) and len(size) == 2:
                height, width = size
                if isinstance(height, int) and isinstance(width, int):
                    return height, width
    return None


def _needs_data(error: Exception) -> bool:
    """Tell whether a forward failed because `meta` holds no values, not because of the shape."""
    text = str(error).lower()
    return isinstance(error, NotImplementedError) or "meta" in text or "data-dependent" in text


_SIZE_WORDS = "size", "height", "width", "shape", "divisible", "match", "channel", "dimension"
"""Words of errors that another image may cure."""


def _refusal(model: nn.Module, candidates: list[Any], given: bool, error: Exception) -> str:
    said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    name = type(model).__name__
    another_size = "another image size, or " if any(w in said.lower() for w in _SIZE_WORDS) else ""
    advice = (
        "an example_input that it takes (a tensor; a tuple of several arguments; a dict of keyword "
        "arguments), as an argument or as an attribute of the model; or name its stages with a "
        "plugin's freezekit_stages hook"
    )
    hooks = _hooks_text(model)
    if given:
        shapes = shapes_text(candidates[0])
        return (
            f"{name} refuses the example_input of shape {shapes} that it was given: {said!r}; "
            f"{hooks}give {another_size}{advice}"
        )
    images = [tree_leaves(candidate)[0] for candidate in candidates]
    sizes = "/".join(str(size) for size in dict.fromkeys(image.shape[-1] for image in images))
    shape = tuple(images[0].shape)
    said = f"{said!r}; {hooks}{_part_text(model)}give {advice}"
    return f"{name} refuses images of {sizes} pixels; of shape {shape}: {said}"


def _part_text(model: nn.Module) -> str:
    """Say which part takes images alone, where the whole says that it takes something else."""
    said = ((n, getattr(m, "main_input_name", None)) for n, m in model.named_modules())
    taken = {name: main for name, main in said if isinstance(main, str)}
    part = next((name for name, main in taken.items() if main == "pixel_values"), None)
    if not part or "" not in taken:
        return ""
    return f"it takes {taken['']!r}, and its part {part!r} takes images: freeze that part; or "


def _hooks_text(model: nn.Module) -> str:
    """Say which forward hooks ran on the copy that was observed, and which did not and why."""
    if left_out := hooks_left_out(model):
        module, reason = next(iter(left_out.items()))
        names = some(list(left_out))
        return (
            f"a copy of it ran without the forward hooks on {names}, which cannot be copied (on "
            f"{module!r}: {reason}): let them refer to the model alone, and keep "
            "outputs on it; or "
        )
    hooked = [n or "the model" for n, m in model.named_modules() if m._forward_hooks]
    if not hooked:
        return ""
    return f"its forward hooks on {some(hooked)} ran on a copy, with copies of what they refer to; "
