"""Models of fake tensors: shapes and devices without memory.

The one module that touches the private conversion of torch's fake tensors.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)

from freezekit.model.reach import reachable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NEEDS_VALUES = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)


class _Mode(FakeTensorMode):
    """As torch's mode, but a detached tensor whose storage was emptied stays empty.

    Torch's mode gives such a storage its size back, from its cache of operators. A real tensor
    stays empty. Autograd detaches what hooks on saved tensors return.
    """

    def __torch_dispatch__(
        self,
        func: Any,  # Any: the dispatcher's own protocol, here and below
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:
        if func is not torch.ops.aten.detach.default:
            return super().__torch_dispatch__(func, types, args, kwargs)
        storage = args[0].untyped_storage()
        size = storage.nbytes()
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if storage.nbytes() != size:
            storage.resize_(size)
        return out


def make_fake(model: nn.Module, device: str) -> FakeTensorMode:
    """Turn the tensors of a model on `meta` into fake ones, in place; return the mode to run it in.

    The conversion happens outside the mode, because some models cannot be built inside it (the ViT,
    Swin and ConvNeXt of timm and torchvision fail in `trunc_normal_`). Parameters, buffers and
    tensors that modules keep as plain attributes, in lists or in dicts are converted; tied ones
    stay tied.

    Args:
        model: A model on `meta`.
        device: The device that the fake tensors report. "cuda" needs a CUDA machine.

    Example:
        >>> model = nn.Linear(3, 4, device="meta")
        >>> with make_fake(model, "cpu"):
        ...     output = model(torch.ones(2, 3))
        >>> output.device, tuple(output.shape)
        (device(type='cpu'), (2, 4))
    """
    mode = _Mode(allow_non_fake_inputs=True)  # real constants that a factory left behind
    target = torch.device(device)
    if target.type == "cuda" and target.index is None:
        target = torch.device("cuda", torch.cuda.current_device())
    converted: dict[Tensor, Tensor] = {}  # tensors hash by identity; the keys stay alive

    def fake(tensor: Tensor) -> Tensor:
        if tensor not in converted:
            plain = mode.fake_tensor_converter.from_meta_and_device(mode, tensor.detach(), target)
            is_parameter = isinstance(tensor, nn.Parameter)
            converted[tensor] = nn.Parameter(plain, tensor.requires_grad) if is_parameter else plain
        return converted[tensor]

    for module in model.modules():
        holders: tuple[dict[str, Any], ...] = (  # Any: plain attributes may be anything
            module._parameters,
            module._buffers,
            vars(module),
        )
        for holder in holders:
            for name, value in holder.items():
                if isinstance(value, Tensor) and value.device.type == "meta":
                    holder[name] = fake(value)
    for kept in list(reachable(model)):  # the same weights in lists and dicts, as modules keep them
        if isinstance(kept, (dict, list)):
            for key, value in list(kept.items() if isinstance(kept, dict) else enumerate(kept)):
                if isinstance(value, Tensor) and value.device.type == "meta":
                    kept[key] = fake(value)
    return mode


def needs_values(error: BaseException | None) -> bool:
    """Return whether an error, or its cause, says that a model needs real numbers to run.

    Example:
        >>> with make_fake(nn.Linear(1, 1, device="meta"), "cpu"):
        ...     try:
        ...         bool(torch.ones(1) > 0)
        ...     except RuntimeError as error:
        ...         print(needs_values(error))
        True
    """
    while error is not None:
        if isinstance(error, _NEEDS_VALUES):
            return True
        error = error.__cause__
    return False
