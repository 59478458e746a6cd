"""The zoo: every name that timm and torchvision list, and how to build one."""

from __future__ import annotations

import fcntl
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

LIBRARIES = ("torchvision", "timm")
DETECTION_SIZE = 128
"""Pixels for models whose forward needs values and so cannot run on `meta`."""

SIZES = (64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 320, 384, 448, 512, 768, 1024)
"""Pixels tried, smallest first, for models that are really trained."""

MOST_PARAMETERS = 450_000_000
"""Of models that are really trained: some six copies of each are held, gradients and all."""

LARGE = 150_000_000
"""Parameters from which one model is trained at a time: 24 GiB do not hold two."""


@dataclass(frozen=True)
class ZooModel:
    """One name of a library.

    Attributes:
        library: "timm" or "torchvision".
        name: As the library lists it.
        family: The library's module that builds it, such as "resnet" or "detection.ssd".
    """

    library: str
    name: str
    family: str

    @property
    def text(self) -> str:
        """What `freezekit.load_backbone` calls it."""
        return f"{self.library}:{self.name}"


def zoo(libraries: tuple[str, ...] = LIBRARIES, only: str = "*") -> list[ZooModel]:
    """Return the models of the libraries whose name or "library:name" matches a glob pattern.

    Example:
        >>> zoo(("torchvision",), "r3d*")
        [ZooModel(library='torchvision', name='r3d_18', family='video.resnet')]
    """
    found = []
    for library in libraries:
        for name, module in sorted(_listed(library).items()):
            if fnmatch(name, only) or fnmatch(f"{library}:{name}", only):
                family = module.removeprefix(f"{library}.models.")
                found.append(ZooModel(library, name, family))
    return found


def _listed(library: str) -> dict[str, str]:
    """Return the module that builds each name."""
    if library == "timm":
        import timm

        return {name: timm.models.model_entrypoint(name).__module__ for name in timm.list_models()}
    from torchvision import models

    return {name: models.get_model_builder(name).__module__ for name in models.list_models()}


def build(text: str) -> nn.Module:
    """Build a model without weights, on `meta` unless its forward needs values."""
    from freezekit import load_backbone

    if _detects(text):
        return load_backbone(text, device="cpu", image_size=DETECTION_SIZE)
    return load_backbone(text, device="meta")


def _detects(text: str) -> bool:
    """Tell whether a model is one of detection, without building it."""
    library, _, name = text.partition(":")
    return library == "torchvision" and ".detection." in _listed(library).get(name, "")


def batch(model: nn.Module, text: str, count: int = 2) -> tuple[Any, ...]:
    """Return what a model from `build` takes in train mode, at its own size where that is free.

    Any: detection takes lists and dictionaries, all others tensors.
    """
    from freezekit.model.tasks import default_image_size, input_shape, make_inputs, task_of

    detects = task_of(model) == "detection"
    size = DETECTION_SIZE if detects else default_image_size(model, text)
    return make_inputs(model, input_shape(model, count, size))


@contextmanager
def room_for(parameters: int) -> Iterator[None]:
    """Wait until no other worker trains a large model, where this one is large."""
    with (Path(tempfile.gettempdir()) / "freezekit-zoo-large").open("w") as lock:
        if parameters >= LARGE:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        yield


@lru_cache(maxsize=8)
def smallest(text: str) -> tuple[int, dict[str, Any]]:
    """Return the smallest size that a model trains on, and the options to build it for that size.

    Any: options are the library's own.
    """
    import torch

    from freezekit import load_backbone
    from freezekit.model.tasks import default_image_size, input_shape, make_inputs, task_of

    plain = build(text)
    if task_of(plain) == "detection":
        return DETECTION_SIZE, {"image_size": DETECTION_SIZE}
    # A model that comes without a classifier is asked for one.
    bare = getattr(plain, "num_classes", None) == 0
    heads: list[dict[str, Any]] = [{"num_classes": 10}, {}] if bare else [{}]
    for size in SIZES:
        for head in heads:
            options = {"image_size": size, **head}
            try:
                model = load_backbone(text, device="meta", **options).train()
                with torch.no_grad():
                    model(*make_inputs(model, input_shape(model, 2, size)))
            except Exception:  # noqa: BLE001  # whatever a model says of too small an image
                continue
            return size, options
    return default_image_size(plain, text), {}


def build_small(text: str) -> tuple[nn.Module, tuple[Any, ...], int]:
    """Build a model with values, on the CPU, with a batch of two of the smallest images it takes.

    Any: detection takes lists and dictionaries, all others tensors.
    """
    import torch

    from freezekit import load_backbone
    from freezekit.model.tasks import input_shape, make_inputs

    size, options = smallest(text)
    torch.manual_seed(0)
    model = load_backbone(text, **options)
    return model, make_inputs(model, input_shape(model, 2, size)), size


def example(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Return the inputs where a model that was built for their size does not say so itself."""
    from freezekit import Backbone, StagingError

    try:
        _ = Backbone(model).stages
    except StagingError:
        return inputs
    return None


def smallest_of_families(lines: Iterable[dict[str, Any]]) -> list[ZooModel]:
    """Return the smallest real model of each family, of those that were counted.

    timm's `test_...` models are toys of its own tests and do not count.

    Args:
        lines: As `coverage.examine` answers, Any: JSON.

    Example:
        >>> line = {"library": "timm", "family": "vgg", "name": "vgg11", "parameters": 9}
        >>> smallest_of_families([line, line | {"name": "vgg13", "parameters": 10}])
        [ZooModel(library='timm', name='vgg11', family='vgg')]
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        family = line["library"], line["family"]
        if "parameters" not in line or line["name"].startswith("test_"):
            continue
        if family not in found or line["parameters"] < found[family]["parameters"]:
            found[family] = line
    return [ZooModel(x["library"], x["name"], x["family"]) for _, x in sorted(found.items())]
