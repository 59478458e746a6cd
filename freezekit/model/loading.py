"""Loads a model from its text: torchvision, timm, or the user's own factory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from freezekit.errors import ModelError
from freezekit.model.out_of_memory import is_out_of_memory
from freezekit.model.sources import find_builder, no_source, split_text

if TYPE_CHECKING:
    from collections.abc import Callable


def load_backbone(
    text: str,
    *,
    pretrained: bool = False,
    num_classes: int | None = None,
    image_size: int | None = None,
    device: str = "cpu",
    **kwargs: Any,  # Any: passed to the model's builder as they are
) -> nn.Module:
    """Build a model from its text.

    Args:
        text: "torchvision:NAME", "timm:NAME", "package.module:factory" or
            "path/to/file.py:factory", where a factory is a callable that returns a module.
        pretrained: Load the library's default weights with the library's own loader; a factory is
            called with `pretrained=True`.
        num_classes: Classes of the classifier. Where pretrained torchvision weights are for another
            number, all layers but the classifier get them.
        image_size: In pixels. Passed to models that are built for one size (ViT, Swin, detection);
            of no effect on all others.
        device: "cpu", "cuda" or "meta" (shapes only: no memory, no weights).
        **kwargs: Passed to the builder.

    Raises:
        ModelError: The library or the name is unknown (the message suggests the nearest), a factory
            raises or returns no module, weights cannot be loaded, or weights are requested on
            "meta".

    Example:
        >>> model = load_backbone("torchvision:resnet18", num_classes=10, device="meta")
        >>> model.fc
        Linear(in_features=512, out_features=10, bias=True)
    """
    source, name = split_text(text)
    if pretrained and device == "meta":
        raise ModelError("pretrained weights cannot be loaded on 'meta', which holds shapes only")
    if num_classes is not None:
        kwargs["num_classes"] = num_classes
    builder = find_builder(text, source, name, pretrained)
    try:
        model = _build_sized(builder, kwargs, device, _size_options(source, name, image_size))
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        what = "could not load pretrained weights for" if pretrained else "could not build"
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ModelError(f"{what} {text!r}: {reason}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{text!r} returned {type(model).__name__!r}, expected a torch.nn.Module")
    return model


def check_name(text: str) -> None:
    """Raise where there is no such model; build nothing, and import none of the user's modules.

    Raises:
        ModelError: The text names no model, the library has no model of that name, or the file does
            not exist.

    Example:
        >>> check_name("torchvision:resnet19")
        Traceback (most recent call last):
        ...
        freezekit.errors.ModelError: torchvision has no model 'resnet19', did you mean ...
    """
    source, name = split_text(text)
    if source in ("timm", "torchvision"):
        find_builder(text, source, name, False)
    elif source.endswith(".py") and not Path(source).is_file():
        raise no_source(text, source)


def _size_options(source: str, name: str, size: int | None) -> dict[str, int]:
    """Return the options that may set the image size of a library's model."""
    if size is None or source not in ("timm", "torchvision"):
        return {}
    if source == "timm":
        return {"img_size": size}
    from torchvision.models import get_model_builder

    if ".detection." in get_model_builder(name).__module__:
        return {"min_size": size, "max_size": size}
    return {"image_size": size}


def _build_sized(
    builder: Callable[..., object], kwargs: dict[str, Any], device: str, size: dict[str, int]
) -> Any:
    """Build with the size option if the builder accepts it, otherwise without."""
    if size:
        try:
            return _build(builder, size | kwargs, device)
        except TypeError as error:
            if not any(option in str(error) for option in size):
                raise
    return _build(builder, kwargs, device)


def _build(builder: Callable[..., object], kwargs: dict[str, Any], device: str) -> Any:
    if device != "meta":
        model = builder(**kwargs)
        return model.to(device) if isinstance(model, nn.Module) else model
    try:
        with torch.device("meta"):
            model = builder(**kwargs)
    except Exception:  # noqa: BLE001  # some builders read values, such as torchvision's RegNet
        model = None
    if model is None or (isinstance(model, nn.Module) and _keeps_plain_tensors(model)):
        model = builder(**kwargs)
    return model.to("meta") if isinstance(model, nn.Module) else model


def _keeps_plain_tensors(model: nn.Module) -> bool:
    """Tell whether modules keep lists of tensors that are not buffers, such as anchors.

    Their values matter. A model built on "meta" would lose them, and a copy to another device would
    not restore them.
    """
    return any(
        isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value)
        for module in model.modules()
        for value in vars(module).values()
    )
