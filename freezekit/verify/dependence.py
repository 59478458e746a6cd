"""Which tensors of a forward depend on what is trained, also where no gradient is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from freezekit.model.nested import tensors

if TYPE_CHECKING:
    from collections.abc import Iterable


class Dependence(TorchDispatchMode):
    """Follows each operation, also under `no_grad` and behind `detach`, where autograd does not.

    A tensor depends on a root if an operation on the root made it or wrote into its memory. The
    memory counts, so that views and parameters that a forward moves are followed too. Tensors that
    a forward makes of Python's numbers or of NumPy's arrays depend on nothing.

    Args:
        roots: Such as the parameters that are trained.

    Example:
        >>> weight, fixed = torch.ones(2), torch.ones(2)
        >>> with Dependence([weight]) as dependence, torch.no_grad():
        ...     moved = fixed.clone().add_(weight)[:1]
        >>> dependence.reaches(moved), dependence.reaches([fixed])
        (True, False)
    """

    supports_higher_order_operators = True

    def __init__(self, roots: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        # They are kept alive: the address of a storage that is freed may be used again.
        self._reached: dict[int, torch.UntypedStorage] = {}
        self._add(roots)

    def reaches(self, nest: Any) -> bool:  # Any: whatever a module takes
        """Tell whether a tensor in a nest depends on a root."""
        return self._reaches(tensors(nest))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # Any: torch's own protocol
        """Run an operation, and note what it made and changed if it was given a reached tensor."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._reaches(_leaves((args, kwargs))):
            self._add(_leaves(result))
            schema = getattr(func, "_schema", None)  # operators of a higher order have none
            for at, argument in enumerate(schema.arguments if schema else ()):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    given = args[at] if at < len(args) else kwargs.get(argument.name)
                    self._add(_leaves(given))
        return result

    def _reaches(self, found: Iterable[Tensor]) -> bool:
        return any(s is not None and s._cdata in self._reached for s in map(_storage, found))

    def _add(self, found: Iterable[Tensor]) -> None:
        for storage in map(_storage, found):
            if storage is not None:
                self._reached[storage._cdata] = storage


def _leaves(nest: Any) -> list[Tensor]:  # Any: arguments or results of an operator
    return [leaf for leaf in tree_leaves(nest) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> torch.UntypedStorage | None:
    """Return the memory of a tensor; None for sparse tensors, which have several."""
    return tensor.untyped_storage() if tensor.layout == torch.strided else None
