"""What a forward in train mode changes in the frozen part of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from freezekit.errors import some
from freezekit.freezing.apply import undo
from freezekit.freezing.eval_hold import RECORD, HeldInEval
from freezekit.model.copies import meta_copy, on_device, real_copy
from freezekit.model.nested import tensors
from freezekit.model.outside import caches_kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.backbone.view import Backbone
    from freezekit.freezing.plan import FreezePlan


def write_warnings(backbone: Backbone, plan: FreezePlan) -> list[str]:
    """Return a warning that names what the forward itself changes in the frozen part.

    Such are observers of quantization-aware training, an `nn.Embedding` with `max_norm`, and
    encoders that follow others by momentum. No list of classes decides. A copy on "meta" runs in
    train mode under the plan, and every operation that writes into its tensors is seen. It runs
    twice: what the first forward fills and the second leaves alone is a cache.

    A model without an `example_input` is not observed. One that needs values is observed on a copy
    of its own if it is on the CPU. What refuses the input in train mode is not observed either.

    Example:
        >>> from freezekit import Backbone, FreezePlan
        >>> net = nn.Sequential(nn.Embedding(4, 2, max_norm=1.0), nn.Linear(2, 2))
        >>> view = Backbone(net, torch.tensor([0, 1]))
        >>> write_warnings(view, FreezePlan({"0.weight"}, {"0"}))[0].partition(":")[2][:12]
        " '0.weight'."
    """
    if backbone.example_input is None or not plan.frozen:
        return []
    try:
        with torch.random.fork_rng(devices=[]), caches_kept(backbone.model):
            names = _written(backbone, plan)
    except Exception:  # noqa: BLE001  # a model's forward may raise anything, on meta above all
        return []
    if not names:
        return []
    return [
        f"the model's own forward changes {len(names)} tensor(s) of the frozen part in train mode: "
        f"{some(names)}. freeze_() cannot stop that: switch it off in the model (observers of "
        "quantization, max_norm, updates by momentum), or leave these parts trainable"
    ]


def _written(backbone: Backbone, plan: FreezePlan) -> list[str]:
    model = backbone.model
    try:
        return _written_by(meta_copy(model), torch.device("meta"), backbone.example_input, plan)
    except Exception:  # what needs values, such as observers, says so in many ways
        cpu = torch.device("cpu")
        if any(tensor.device != cpu for tensor in (*model.parameters(), *model.buffers())):
            raise
        with torch.no_grad():
            return _written_by(real_copy(model), cpu, backbone.example_input, plan)


def _written_by(
    model: nn.Module, device: torch.device, example: Any, plan: FreezePlan
) -> list[str]:  # Any: whatever the model takes
    if RECORD in model.__dict__:
        undo(model)
    for name, module in model.named_modules():
        if name in (plan.eval_modules or ()):
            HeldInEval(module).hold()
    model.train()
    given = on_device(example, device)
    args, kwargs = ((), given) if isinstance(given, dict) else (given, {})
    args = args if isinstance(args, tuple) else (args,)
    model(*args, **kwargs)
    before = _frozen_tensors(model, plan)
    with _Writes() as writes:
        model(*args, **kwargs)
    after = _frozen_tensors(model, plan)
    return [
        name
        for name, storage in before.items()
        if storage in writes.storages or after.get(name) != storage
    ]


def _frozen_tensors(model: nn.Module, plan: FreezePlan) -> dict[str, int]:
    """Return the storages of the frozen parameters, and of what the state dict has of held modules.

    Other tensors of modules are left out: many hold the last output, or are computed each time.
    """
    kept = model.state_dict().keys()
    held = plan.eval_modules or frozenset()
    found = {n: _storage(p) for n, p in model.named_parameters() if n in plan.frozen}
    for name, buffer in model.named_buffers():
        if name in kept and name.rpartition(".")[0] in held:
            found[name] = _storage(buffer)
    return found


def _storage(tensor: Tensor) -> int:
    address: int = tensor.untyped_storage()._cdata  # equal for all tensors that share memory
    return address


class _Writes(TorchDispatchMode):
    """Collects the storages into which operations write, also through `.data` and views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.storages: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:  # Any: torch's own protocol
        named = dict(zip((a.name for a in func._schema.arguments), args, strict=False))
        named |= kwargs or {}
        for argument in func._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                self.storages.update(map(_storage, tensors(named.get(argument.name))))
        return func(*args, **(kwargs or {}))
