"""Work on copies that leaves the original and all random state as they were; equality of bits."""

from __future__ import annotations

import copy
import hashlib
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from freezekit.errors import FreezekitError, ModelError, some
from freezekit.freezing.eval_hold import carried
from freezekit.model.copies import deep_copies
from freezekit.model.nested import tensors
from freezekit.model.out_of_memory import is_out_of_memory
from freezekit.model.random_state import RandomState, cuda_devices

if TYPE_CHECKING:
    from collections.abc import Iterator


def copy_with(model: nn.Module, *others: Any) -> tuple[Any, ...]:  # Any: optimizers and the like
    """Return copies of a model, without gradients, and of what refers to its parameters.

    Raises:
        ModelError: Something cannot be copied.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(model.parameters())
        >>> copied, its_optimizer = copy_with(model, optimizer)
        >>> its_optimizer.param_groups[0]["params"][0] is copied.weight
        True
    """
    try:
        copied, *rest, memo = deep_copies(model, *others)
        for original, other in zip(others, rest, strict=True):
            if isinstance(original, torch.optim.Optimizer):
                _copy_missing_attributes(original, other, memo)
    except Exception as error:
        reraise_if_clear(error)
        raise ModelError(
            f"{type(model).__name__} cannot be copied to be verified ({type(error).__name__}: "
            f"{error}); remove what cannot be copied, or verify a module inside it"
        ) from error
    return copied, *rest


def check_carried(model: nn.Module, copied: nn.Module) -> None:
    """Refuse a copy of a frozen model that is not frozen as the model is.

    Raises:
        ModelError: The deepcopy of a module left out what `freeze_` put into it.
    """
    if lost := [n or "the model" for n in sorted(carried(model) - carried(copied))]:
        raise ModelError(
            f"{type(copied).__name__} cannot be verified: a deepcopy of it leaves out what "
            f"freeze_() put into {some(lost)} (torch.fx and torch.compile make such modules); "
            "freeze and verify the model from which it was made"
        )


def _copy_missing_attributes(
    original: Any, copied: Any, memo: dict[int, Any]
) -> None:  # Any: optimizers
    """Copy the attributes of an optimizer that its own deepcopy leaves out.

    That copies groups and state only. Functions are left out here too: hooks and a scheduler's
    patches would act on the original.
    """
    for name in vars(original).keys() - vars(copied).keys():
        value = vars(original)[name]
        if not callable(value):
            setattr(copied, name, copy.deepcopy(value, memo))
            if isinstance(value, torch.optim.Optimizer):
                _copy_missing_attributes(value, getattr(copied, name), memo)


@contextmanager
def state_preserved(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Restore all random state and the model's gradients at the end; yield these gradients by name.

    Meanwhile the model has no gradients. A loss may refer to the model itself, so that its backward
    pass would add to them.
    """
    parameters = dict(model.named_parameters())
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    random_state = RandomState.now(cuda_devices(model))
    for parameter in parameters.values():
        parameter.grad = None
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            yield gradients
    finally:
        for name, parameter in parameters.items():
            parameter.grad = gradients.get(name)
        random_state.restore()


def reraise_if_clear(error: Exception) -> None:
    """Raise an error again if its message is enough: freezekit's own, and out of memory."""
    if isinstance(error, FreezekitError) or is_out_of_memory(error):
        raise error


def clone_tensors(nest: Any) -> Any:  # Any: whatever a forward takes
    """Return a nest of arguments with its tensors cloned, each once and without a graph."""
    clones: dict[int, Tensor] = {}

    def clone(tensor: Tensor) -> Tensor:
        if id(tensor) not in clones:  # attention tests whether query, key and value are one
            fresh = tensor.detach().clone()
            clones[id(tensor)] = fresh.requires_grad_(tensor.is_leaf and tensor.requires_grad)
        return clones[id(tensor)]

    return tree_map_only(Tensor, clone, nest)


def same_bits(one: Tensor | None, other: Tensor | None) -> bool:
    """Tell whether two tensors have the same bits; a NaN equals itself.

    Example:
        >>> nan = torch.tensor([float("nan")])
        >>> same_bits(nan, nan.clone()), same_bits(torch.tensor(0.0), torch.tensor(-0.0))
        (True, False)
    """
    if one is None or other is None:
        return one is other
    if one.dtype != other.dtype or one.shape != other.shape or one.layout != other.layout:
        return False
    if one.layout != torch.strided or one.is_quantized:
        return torch.equal(one, other)
    return torch.equal(bits(one), bits(other))


def bits(tensor: Tensor) -> Tensor:
    """Return the bytes of a strided tensor, in one dimension."""
    return tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)


def digest(nest: Any) -> tuple[bytes, ...]:  # Any: whatever a module takes or returns
    """Return a digest of each tensor in a nest: equal exactly where `same_bits` is true.

    Example:
        >>> digest([torch.ones(2)]) == digest([torch.ones(2)]) != digest([torch.ones(1)])
        True
    """
    return tuple(_digest(tensor.detach()) for tensor in tensors(nest))


def _digest(tensor: Tensor) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    found.update(f"{tensor.dtype} {tuple(tensor.shape)} {tensor.layout}".encode())
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    elif tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if not tensor.is_meta:
        found.update(bits(tensor).cpu().numpy().data)
    return found.digest()
