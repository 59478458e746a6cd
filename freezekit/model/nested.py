"""Tensors in inputs and outputs of a forward: nests of lists, mappings, dataclasses and objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import Module

if TYPE_CHECKING:
    from collections.abc import Iterator

# Any in this file: a forward may take and return anything.


def shapes_text(nest: Any) -> str:
    """Return the shapes of the tensors in an input as text.

    Example:
        >>> import torch
        >>> shapes_text((torch.ones(2, 3), torch.ones(2)))
        '(2, 3), (2,)'
    """
    shapes = [str(tuple(tensor.shape)) for tensor in tensors(nest)]
    return ", ".join(shapes[:2]) + (f" and {len(shapes) - 2} more" if len(shapes) > 2 else "")


def tensors(nest: Any) -> Iterator[Tensor]:
    """Yield all tensors in an input or output, including those in dataclasses and objects.

    Example:
        >>> import torch
        >>> [t.shape[0] for t in tensors({"logits": torch.ones(2), "maps": [torch.ones(3), None]})]
        [2, 3]
    """
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, Mapping):
        yield from (t for value in nest.values() for t in tensors(value))
    elif isinstance(nest, (list, tuple)):
        yield from (t for value in nest for t in tensors(value))
    else:  # torchvision's ImageList is an object
        yield from (t for value in fields_of(nest).values() for t in tensors(value))


def fields_of(value: Any) -> Mapping[str, Any]:
    """Return the fields of a mapping, a named tuple, a dataclass or a plain object, by name.

    Example:
        >>> from collections import namedtuple
        >>> fields_of(namedtuple("Output", "logits")(3)), fields_of([3])
        ({'logits': 3}, {})
    """
    if isinstance(value, Mapping):
        return value
    if isinstance(value, tuple):
        named: Mapping[str, Any] = getattr(value, "_asdict", dict)()
        return named
    if isinstance(value, type | Module) or callable(value):
        return {}
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    # Only attributes of these types: any other may refer back to the object, without end.
    held = getattr(value, "__dict__", {}).items()
    return {n: v for n, v in held if isinstance(v, (Tensor, Mapping, list, tuple))}
