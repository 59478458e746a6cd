"""Statistics that modules keep in tensors which are neither parameters nor buffers."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from freezekit.errors import ModelError
from freezekit.model.modes import in_mode
from freezekit.model.random_state import RandomState, cuda_devices
from freezekit.verify.calls import Given
from freezekit.verify.forwards import ObservedForwards, deterministic
from freezekit.verify.isolation import digest
from freezekit.verify.plain_tensors import plain_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from freezekit.verify.claims import Claims
    from freezekit.verify.training import TrainingTask


@dataclass
class _State:
    """The plain tensors of a model.

    Attributes:
        digests: By path, which starts with the name of the module.
        owners: The name of the module, by path.
        lengths: The lengths of lists, by path.
    """

    digests: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of(model: nn.Module) -> _State:
        """Return the state of now, without tensors that share memory with a parameter or buffer."""
        state = _State()
        taken = {_memory(tensor) for tensor in (*model.parameters(), *model.buffers())}
        for name, module in model.named_modules():
            found, prefix = plain_tensors(module), f"{name}." if name else ""
            state.lengths |= {prefix + path: length for path, length in found.lengths.items()}
            for path, tensor in found.tensors.items():
                memory = _memory(tensor)
                if memory is None or memory not in taken:
                    state.digests[prefix + path] = digest(tensor)
                    state.owners[prefix + path] = name
        return state


def moved_plain_tensors(
    original: nn.Module,
    trained: nn.Module,
    claims: Claims,
    task: TrainingTask,
    make_copy: Callable[[], nn.Module],
) -> tuple[str, ...]:
    """Return the paths of plain tensors in which a frozen part keeps what it saw in training.

    A module may also keep its last output, or a table that it computed once. These are told apart
    by the history: a statistic depends on what the module saw before. Two copies get the same
    input, one of them after another input. What differs then is a statistic. A list that grows with
    each forward is a record of outputs and no statistic; if it acts on outputs, the comparison of
    train and eval mode finds it.

    Args:
        original: The model before training.
        trained: Its copy after training.
        claims: What is held in eval mode.
        task: What the copy was trained on.
        make_copy: Returns a fresh copy of the model. Called only where plain tensors changed.
    """
    before, after = _State.of(original), _State.of(trained)
    changed = [n for n, found in after.digests.items() if found != before.digests.get(n)]
    if not changed or not claims.eval_modules:
        return ()
    with deterministic():
        moved = _moved(changed, claims, task, make_copy)
        own = {path for path in moved if after.owners[path] in claims.eval_modules}
        others = [path for path in moved if path not in own]
        if others:  # of modules that are not frozen; does a frozen one change them?
            own |= _changed_in_held_calls(others, claims, task, make_copy())
    return tuple(path for path in moved if path in own)


def _moved(
    changed: Collection[str],
    claims: Claims,
    task: TrainingTask,
    make_copy: Callable[[], nn.Module],
) -> list[str]:
    one, two = make_copy(), make_copy()
    start = RandomState.now(cuda_devices(one))
    arrived = ObservedForwards(one, claims.wholly_held(one), task.forward).run()
    two.train()
    try:
        _other_input(task).forward(two)
    except ModelError:  # boxes, for example, must not be negative
        two = in_mode(make_copy(), training=True)
        task.forward(two)
    start.restore()
    ObservedForwards(two, claims.wholly_held(two), task.forward).run(given=Given(arrived))
    once, later = _State.of(one), _State.of(two)
    grown = {n for n, length in later.lengths.items() if once.lengths.get(n, length) != length}
    return [
        path
        for path in changed
        if path in once.digests
        and path in later.digests
        and once.digests[path] != later.digests[path]
        and not any(path.startswith(f"{listed}[") for listed in grown)
    ]


def _other_input(task: TrainingTask) -> TrainingTask:
    """Return a task with an input of another mean, and a larger one in absolute value."""

    def other(tensor: Tensor) -> Tensor:
        return tensor.detach() * -2 if tensor.is_floating_point() else tensor

    args, kwargs = tree_map_only(Tensor, other, (task.args, task.kwargs))
    return replace(task, args=args, kwargs=kwargs)


def _changed_in_held_calls(
    paths: Collection[str], claims: Claims, task: TrainingTask, model: nn.Module
) -> set[str]:
    """Return the paths of the tensors that change while a held module runs."""
    found: set[str] = set()
    started: list[dict[str, tuple[bytes, ...] | None]] = []

    def look() -> dict[str, tuple[bytes, ...] | None]:
        digests = _State.of(model).digests
        return {path: digests.get(path) for path in paths}

    def enter(*_: Any) -> None:  # Any: whatever the module takes
        started.append(look())

    def leave(*_: Any) -> None:  # Any: whatever the module returns
        before = started.pop()
        found.update(path for path, now in look().items() if now != before[path])

    model.train()
    with _hooks(claims.wholly_held(model).values(), enter, leave), torch.enable_grad():
        task.forward(model)
    return found


@contextmanager
def _hooks(
    modules: Collection[nn.Module], enter: Callable[..., None], leave: Callable[..., None]
) -> Iterator[None]:
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_pre_hook(enter, prepend=True).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield


def _memory(tensor: Tensor) -> int | None:
    """Return what is equal for tensors that share memory; None for sparse tensors."""
    if tensor.layout != torch.strided:
        return None
    address: int = tensor.untyped_storage()._cdata
    return address
