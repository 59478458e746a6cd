"""From a model's text to the model: torchvision, timm, or a factory of one's own."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from freezekit.errors import ModelError, suggest
from freezekit.model.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    import types
    from collections.abc import Callable

FORMS = (
    "'torchvision:resnet50', 'timm:vit_small_patch16_224', 'package.module:factory' or "
    "'path/to/file.py:factory'"
)


def load_backbone(
    text: str,
    *,
    pretrained: bool = False,
    num_classes: int | None = None,
    image_size: int | None = None,
    device: str = "cpu",
    **kwargs: Any,  # Any: handed to the model's builder as they are
) -> nn.Module:
    """Build a model from its text.

    Args:
        text: "torchvision:NAME", "timm:NAME", "package.module:factory" or
            "path/to/file.py:factory", where a factory is a callable that returns a module.
        pretrained: Load the library's default weights with the library's own loader; a factory is
            called with `pretrained=True`.
        num_classes: Classes of the classifier. With pretrained torchvision weights for another
            number, the classifier alone keeps its fresh values.
        image_size: Pixels; told to models that are built for one size (ViT, Swin, detection); of no
            effect on all others.
        device: "cpu", "cuda" or "meta" (shapes only: no memory, no weights).
        **kwargs: Passed on to the builder.

    Raises:
        ModelError: Unknown library or name (the nearest are offered), a factory that raises or
            returns no module, weights that cannot be had, or weights wanted on "meta".

    Example:
        >>> model = load_backbone("torchvision:resnet18", num_classes=10, device="meta")
        >>> model.fc
        Linear(in_features=512, out_features=10, bias=True)
    """
    source, name = _parts(text)
    if pretrained and device == "meta":
        raise ModelError("pretrained weights cannot be loaded on 'meta', which holds shapes only")
    if num_classes is not None:
        kwargs["num_classes"] = num_classes
    builder = _builder(text, source, name, pretrained)
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
    """Raise where there is no such model; nothing is built, and no module of one's own imported.

    Raises:
        ModelError: The text is no model's, the library has none of that name, or there is no file.

    Example:
        >>> check_name("torchvision:resnet19")
        Traceback (most recent call last):
        ...
        freezekit.errors.ModelError: torchvision has no model 'resnet19', did you mean ...
    """
    source, name = _parts(text)
    if source in ("timm", "torchvision"):
        _builder(text, source, name, False)
    elif source.endswith(".py") and not Path(source).is_file():
        raise _no_source(text, source)


def _parts(text: str) -> tuple[str, str]:
    """Return the library, module or file of a model, and its name there."""
    library = text.startswith(("torchvision:", "timm:"))  # timm's own names may hold colons
    source, separator, name = text.partition(":") if library else text.rpartition(":")
    if not separator or not source or not name:
        raise ModelError(f"{text!r} is not a model, expected {FORMS}{_hint(text)}")
    return source, name


def _size_options(source: str, name: str, size: int | None) -> dict[str, int]:
    """Return the options by which a library's models may be told their size."""
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
    """Build with the size option if the builder takes it, else without."""
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
    except Exception:  # noqa: BLE001  # some builders read values, as torchvision's RegNet does
        model = None
    if model is None or (isinstance(model, nn.Module) and _keeps_plain_tensors(model)):
        model = builder(**kwargs)
    return model.to("meta") if isinstance(model, nn.Module) else model


def _keeps_plain_tensors(model: nn.Module) -> bool:
    """Tell whether modules keep lists of tensors that are no buffers: anchors, whose values count.

    On `meta` those would be lost for good, for no copy of the model elsewhere brings them back.
    """
    return any(
        isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value)
        for module in model.modules()
        for value in vars(module).values()
    )


def _hint(text: str) -> str:
    """Say what a bare name probably meant."""
    from torchvision.models import list_models

    if text in list_models():
        return f"; did you mean 'torchvision:{text}' or 'timm:{text}'?"
    return ""


def _builder(text: str, source: str, name: str, pretrained: bool) -> Callable[..., object]:
    if source == "torchvision":
        return _torchvision(name, pretrained)
    if source == "timm":
        return _timm(name, pretrained)
    factory = _factory(text, source, name)
    if not pretrained:
        return factory
    return lambda **kwargs: factory(pretrained=True, **kwargs)


def _torchvision(name: str, pretrained: bool) -> Callable[..., object]:
    from torchvision import models

    if name not in models.list_models():
        raise ModelError(
            f"torchvision has no model {name!r}{suggest(name, models.list_models())}; "
            "torchvision.models.list_models() lists them"
        )

    def build(**kwargs: Any) -> object:  # Any: torchvision's own options
        if name.endswith(("googlenet", "inception_v3")) and not pretrained:
            kwargs.setdefault("init_weights", True)  # the default, of which they warn
        # Detection and segmentation models fetch weights for their backbone unless told not to.
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
    """Give the layers that tell `before` classes fresh values and `classes` outputs."""
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


def _timm(name: str, pretrained: bool) -> Callable[..., nn.Module]:
    import timm

    base = name.split(".")[0]
    if not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) and not timm.is_model(base):
        raise ModelError(
            f"timm has no model {name!r}{suggest(base, timm.list_models())}; "
            "timm.list_models('*NAME*') lists them"
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


def import_source(text: str, source: str) -> types.ModuleType:
    """Import "package.module" or "path/to/file.py".

    Raises:
        ModelError: There is no such file or module, or it raises.
    """
    try:
        if source.endswith(".py"):
            return _import_file(Path(source))
        return importlib.import_module(source)
    except (Exception, SystemExit) as error:
        unknown = isinstance(error, ModuleNotFoundError) and error.name == source.split(".")[0]
        if unknown or isinstance(error, FileNotFoundError):
            raise _no_source(text, source) from None
        raise ModelError(
            f"{text!r}: importing {source!r} failed: {type(error).__name__}: {error}"
        ) from error


def _no_source(text: str, source: str) -> ModelError:
    kind = "file" if source.endswith(".py") else "module"
    return ModelError(f"{text!r}: there is no {kind} {source!r}; a model is {FORMS}")


def _import_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise FileNotFoundError(path)
    name = f"freezekit_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python file.py` does
    spec.loader.exec_module(module)
    return module
