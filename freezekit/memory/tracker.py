"""The live-storage tracker: the memory of tensors, by unique storage, after each operator."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class StorageTracker(TorchDispatchMode):
    """Follow the bytes of all live storages that ops return or take, on one type of device.

    Inside the `with` block tensors are recorded by their untyped storage, so views, in-place and
    `out=` ops count nothing twice. A storage is removed when it is freed, whatever held it: a
    variable, the graph, an attribute of an autograd function. Resized storages count with their
    present size. There are no hooks on modules or tensors, so parameters may be frozen. It works
    with real tensors and under `FakeTensorMode`.

    Memory that no tensor shows, such as the scratch space inside one op, is not seen. The reference
    is `torch.distributed._tools.mem_tracker`. It hooks parameters and so refuses frozen ones.

    Args:
        device: Count storages on this type of device only ("cpu", "cuda"); a fake tensor counts
            on the device that it reports.
        workspace: From an operator and its arguments to the bytes that it holds at its own peak
            beyond what is alive after it; `peak_with_workspace_bytes` counts them.

    Attributes:
        moments: About how many bytes were alive after each operator since the last `reset_peak`,
            with its workspace.
        born: How many storages were seen. It is the number, as in `alive`, of the next new one.
        allocated_bytes: Of all storages that were seen, also of those that were freed.

    Example:
        >>> with StorageTracker("cpu") as tracker:
        ...     rows = torch.zeros(4, 8)
        ...     column = (rows + 1)[:, 0]
        ...     del rows
        >>> tracker.current_bytes, tracker.peak_bytes
        (128, 256)
        >>> column.sum().item(), column.untyped_storage().nbytes()
        (4.0, 128)
    """

    def __init__(
        self, device: str, workspace: Callable[[Any, tuple[Any, ...]], int] | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
        self._workspace = workspace
        self._peak_with_workspace_bytes = 0
        self._device_type = torch.device(device).type
        self._live: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._last_sizes: dict[int, int] = {}
        # By address. Entries stay when a storage is freed: a later one there gets another number.
        self._births: dict[int, int] = {}
        self._peak_sizes: dict[int, int] = {}
        self._peak_births: dict[int, int] = {}
        self.born = 0
        self.allocated_bytes = 0
        self._estimate_bytes = 0  # the sum of the last sizes seen
        self._peak_bytes = 0
        self.moments: list[int] = []

    @property
    def current_bytes(self) -> int:
        """Bytes that live storages hold now."""
        return sum(self.snapshot().values())

    @property
    def peak_bytes(self) -> int:
        """The highest `current_bytes` after any op since the start or `reset_peak`."""
        return self._peak_bytes

    @property
    def peak_with_workspace_bytes(self) -> int:
        """The highest total with the workspace of operators; at least `peak_bytes`."""
        return max(self._peak_bytes, self._peak_with_workspace_bytes)

    def reset_peak(self) -> None:
        """Let the peak start from what is alive now."""
        self._keep_peak(self.snapshot())
        self._peak_with_workspace_bytes = 0
        self.moments = [self._peak_bytes]

    def snapshot(self) -> dict[int, int]:
        """Return the bytes of each live storage by its address; holds nothing alive."""
        alive = ((key, reference()) for key, reference in list(self._live.items()))
        return {key: storage.nbytes() for key, storage in alive if storage is not None}

    def alive(self) -> set[int]:
        """Return a number for each live storage, which no later one gets; holds nothing alive."""
        return set(self.alive_bytes())

    def alive_bytes(self) -> dict[int, int]:
        """Return the bytes of each live storage by its number in `alive`; holds nothing alive."""
        return {self._births[key]: size for key, size in self.snapshot().items()}

    def numbers_of(self, tensors: Iterable[Tensor]) -> set[int]:
        """Return the numbers, as in `alive`, of the storages behind these tensors."""
        keys = (tensor.untyped_storage()._cdata for tensor in tensors)
        return {self._births[key] for key in keys if key in self._births}

    def peak_storages(self) -> dict[int, int]:
        """Return the bytes of each storage that was alive at the peak, by its number in `alive`.

        Example:
            >>> with StorageTracker("cpu") as tracker:
            ...     kept = torch.zeros(8)
            ...     passing = torch.zeros(24)
            ...     there = tracker.numbers_of([kept])
            ...     del passing
            >>> at_peak = tracker.peak_storages()
            >>> sum(at_peak.values()), sum(at_peak[number] for number in there)
            (128, 32)
        """
        return {self._peak_births[key]: size for key, size in self._peak_sizes.items()}

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Count storages that were there before: parameters, inputs, optimizer state."""
        for tensor in tensors:
            if tensor.device.type == self._device_type:
                self._note(tensor.untyped_storage())
        if self._estimate_bytes > self._peak_bytes:
            # Storages can shrink without the dispatcher. So all are counted again, but only at a
            # possible peak, which is cheap.
            self._last_sizes = self.snapshot()
            self._estimate_bytes = sum(self._last_sizes.values())
            if self._estimate_bytes > self._peak_bytes:
                self._keep_peak(self._last_sizes)

    def _keep_peak(self, sizes: Mapping[int, int]) -> None:
        self._peak_bytes = sum(sizes.values())
        self._peak_sizes, self._peak_births = dict(sizes), dict(self._births)

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # the address, which a storage keeps until it is freed
        if key not in self._live:
            self._live[key] = weakref.ref(storage, lambda _: self._forget(key))
            self._births[key] = self.born
            self.born += 1
            self.allocated_bytes += storage.nbytes()
        size = storage.nbytes()
        self._estimate_bytes += size - self._last_sizes.get(key, 0)
        self._last_sizes[key] = size

    def _forget(self, key: int) -> None:
        self._live.pop(key, None)
        self._estimate_bytes -= self._last_sizes.pop(key, 0)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],  # Any: the dispatcher's own protocol, here and below
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the op; record its results and its arguments, which may be new or resized."""
        out = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, out))
        self.add(leaf for leaf in leaves if isinstance(leaf, Tensor))
        count = 0 if self._workspace is None else self._workspace(func, args)
        self._add_workspace(count)
        self.moments.append(self._estimate_bytes + count)
        return out

    def _add_workspace(self, count: int) -> None:
        if count and self._estimate_bytes + count > self.peak_with_workspace_bytes:
            peak = self.current_bytes + count
            self._peak_with_workspace_bytes = max(self._peak_with_workspace_bytes, peak)


def storage_bytes(tensors: Iterable[Tensor], device: str) -> dict[int, int]:
    """Return the bytes of each unique storage behind these tensors, by its address.

    Example:
        >>> row = torch.zeros(8)
        >>> sum(storage_bytes([row, row[:2], torch.zeros(1)], "cpu").values())
        36
    """
    tracker = StorageTracker(device)
    tracker.add(tensors)
    return tracker.snapshot()
