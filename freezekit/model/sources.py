"""A model's text, and the library, module or file that builds the model."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from freezekit.errors import ModelError, suggest
from freezekit.model.own_folder import claim_for_current_folder, look_first_in

if TYPE_CHECKING:
    import types
    from collections.abc import Callable

FORMS = (
    "'torchvision:resnet50', 'timm:vit_small_patch16_224', 'package.module:factory' or "
    "'path/to/file.py:factory'"
)


def split_text(text: str) -> tuple[str, str]:
    """Return the library, module or file of a model, and its name there.

    Raises:
        ModelError: The text has none of the forms in `FORMS`.

    Example:
        >>> split_text("timm:resnet18"), split_text("path/to/file.py:build")
        (('timm', 'resnet18'), ('path/to/file.py', 'build'))
    """
    library = text.startswith(("torchvision:", "timm:"))  # names in timm may contain colons
    source, separator, name = text.partition(":") if library else text.rpartition(":")
    if not separator or not source or not name:
        raise ModelError(f"{text!r} is not a model, expected {FORMS}{_hint(text)}")
    return source, name


def _hint(text: str) -> str:
    """Return a suggestion for a name without its library."""
    from torchvision.models import list_models

    if text in list_models():
        return f"; did you mean 'torchvision:{text}' or 'timm:{text}'?"
    return ""


def find_builder(text: str, source: str, name: str, pretrained: bool) -> Callable[..., object]:
    """Return the function that builds a model.

    Args:
        text: The model's text, for messages.
        source: As `split_text` returns it.
        name: As `split_text` returns it.
        pretrained: Build with pretrained weights.

    Raises:
        ModelError: There is no such model, module, file or factory.
    """
    if source == "torchvision":
        return _torchvision_builder(name, pretrained)
    if source == "timm":
        return _timm_builder(name, pretrained)
    factory = _factory(text, source, name)
    if not pretrained:
        return factory
    return lambda **kwargs: factory(pretrained=True, **kwargs)


def _torchvision_builder(name: str, pretrained: bool) -> Callable[..., object]:
    from torchvision import models

    if name not in models.list_models():
        raise ModelError(
            f"torchvision has no model {name!r}{suggest(name, models.list_models()) or '.'} "
            "torchvision.models.list_models() lists all names"
        )

    def build(**kwargs: Any) -> object:  # Any: torchvision's own options
        if name.endswith(("googlenet", "inception_v3")) and not pretrained:
            kwargs.setdefault("init_weights", True)  # the default; without it torchvision warns
        # Without weights_backbone=None, detection and segmentation models download weights for
        # their backbone.
        if not pretrained:
            try:
                return models.get_model(name, weights=None, weights_backbone=None, **kwargs)
            except TypeError as error:
                if "weights_backbone" not in str(error):
                    raise
                return models.get_model(name, weights=None, **kwargs)
        weights = models.get_model_weights(name).DEFAULT
        classes = kwargs.pop("num_classes", None)
        model = models.get_model(name, weights=weights, **kwargs)
        if classes is not None and classes != len(weights.meta["categories"]):
            _renew_classifier(model, len(weights.meta["categories"]), classes)
        return model

    return build


def _renew_classifier(model: nn.Module, before: int, classes: int) -> None:
    """Replace the layers with an output per class by new ones for another number of classes.

    Args:
        model: Changed in place.
        before: Its number of classes.
        classes: The new number.

    Raises:
        ModelError: The model has no such layer, or is a detection model.
    """
    last = [
        (name, module)
        for name, module in model.named_modules()
        if before in (getattr(module, "out_features", 0), getattr(module, "out_channels", 0))
        and isinstance(module, (nn.Linear, nn.Conv2d))
    ]
    if not last or hasattr(model, "roi_heads") or hasattr(model, "anchor_generator"):
        raise ModelError(
            f"pretrained weights of {type(model).__name__} come with their own {before} classes; "
            "leave out num_classes"
        )
    for name, module in last:
        bias = module.bias is not None
        fresh: nn.Module
        if isinstance(module, nn.Linear):
            fresh = nn.Linear(module.in_features, classes, bias)
        else:
            fresh = nn.Conv2d(module.in_channels, classes, module.kernel_size, bias=bias)  # type: ignore[arg-type]  # as the old layer has it
        model.set_submodule(name, fresh)


def _timm_builder(name: str, pretrained: bool) -> Callable[..., nn.Module]:
    import timm

    base = name.split(".")[0]
    if not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) and not timm.is_model(base):
        raise ModelError(
            f"timm has no model {name!r}{suggest(base, timm.list_models()) or '.'} "
            "timm.list_models('*NAME*') lists names"
        )
    return lambda **kwargs: timm.create_model(name, pretrained=pretrained, **kwargs)


def _factory(text: str, source: str, name: str) -> Callable[..., object]:
    module = import_source(text, source)
    factory = getattr(module, name, None)
    if factory is None:
        known = [n for n, value in vars(module).items() if callable(value)]
        raise ModelError(f"{source!r} has no {name!r} (in {text!r}){suggest(name, known)}")
    if not callable(factory):
        what = type(factory).__name__
        raise ModelError(f"{text!r} is of type {what}, expected a function that returns a module")
    return factory  # type: ignore[no-any-return]  # any callable; what it returns is checked


def import_source(
    text: str, source: str, expected: str = f"a model is {FORMS}"
) -> types.ModuleType:
    """Import "package.module" or "path/to/file.py".

    Args:
        text: What the user gave, for messages.
        source: The module or the file in it.
        expected: Which forms there are, for the message where there is no such module or file.

    Raises:
        ModelError: The file or module does not exist, or raises.
    """
    try:
        if source.endswith(".py"):
            return _import_file(Path(source))
        claim_for_current_folder(source.partition(".")[0])
        return importlib.import_module(source)
    except (Exception, SystemExit) as error:
        unknown = isinstance(error, ModuleNotFoundError) and error.name == source.split(".")[0]
        if unknown or isinstance(error, FileNotFoundError):
            raise no_source(text, source, expected) from None
        raise ModelError(
            f"{text!r}: importing {source!r} failed: {type(error).__name__}: {error}"
        ) from error


def no_source(text: str, source: str, expected: str = f"a model is {FORMS}") -> ModelError:
    """Return the error for a text whose module or file does not exist."""
    kind = "file" if source.endswith(".py") else "module"
    return ModelError(f"{text!r}: there is no {kind} {source!r}; {expected}")


def _import_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise FileNotFoundError(path)
    name = f"freezekit_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    look_first_in(str(path.resolve().parent), name)
    spec.loader.exec_module(module)
    return module
