"""A script for ranks: changes of a model inside DistributedDataParallel, on two ranks.

Run by `test_reducer.py`, which reads what each situation returns.
"""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

from freezekit import FreezekitError, freeze_
from freezekit.schedules import reducer
from freezekit.schedules.reducer import broadcast_held, check_wrapper, rebuild_, wrappers_of
from freezekit.verify.isolation import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD, TWO_PARTS = "by-name:contains=body", "by-name:contains=body.0"
SPECS = [HEAD, TWO_PARTS, "full", TWO_PARTS, HEAD]
"""The phases of a training: more is trained, then less."""

STEPS = 4
"""In each phase."""

SETTINGS = [
    "find_unused_parameters",
    "gradient_as_bucket_view",
    "bucket_bytes_cap",
    "bucket_bytes_cap_default",
    "bucket_bytes_cap_list",
    "forward_sync_buffers",
    "broadcast_buffers",
    "skip_all_reduce_unused_params",
    "batched_grad_copy",
    "process_group",
    "device_ids",
    "module",
]
"""Attributes of a wrapper, of which older versions of torch lack some."""


def net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential()
    body = [nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8)) for width in (4, 8)]
    model.add_module("body", nn.Sequential(*body))
    model.add_module("head", nn.Linear(8, 4))
    model.body[0].register_buffer("flags", torch.tensor([True, False]))
    return model


class Data:
    """Other inputs on each rank, the same in every situation."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(distributed.get_rank())

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(6, 4, generator=self.generator)
        return x, torch.randn(6, 4, generator=self.generator)


def divergence(model: nn.Module) -> float:
    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    low, high = flat.clone(), flat.clone()
    distributed.all_reduce(low, op=distributed.ReduceOp.MIN)
    distributed.all_reduce(high, op=distributed.ReduceOp.MAX)
    return float((high - low).abs().max())


def counting_hook(counted, bucket):  # type: ignore[no-untyped-def]  # DDP refuses such text
    counted[0] += bucket.buffer().numel() * bucket.buffer().element_size()
    return default_hooks.allreduce_hook(None, bucket)


def trained_bytes(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def train(
    prepare: Callable[[DistributedDataParallel], object] = lambda _: None,
    change: Callable[[DistributedDataParallel], object] = rebuild_,
    compiled: str = "",
    **settings: Any,
) -> dict[str, Any]:
    """Train through all phases with one optimizer; return what can be compared."""
    model = net()
    frozen = freeze_(model, SPECS[0])
    inside = torch.compile(model, backend="eager") if compiled == "inside" else model
    wrapper = DistributedDataParallel(inside, **settings)
    called = torch.compile(wrapper, backend="eager") if compiled == "outside" else wrapper
    prepare(wrapper)
    counted: list[int] = [0]
    if prepare is count:
        wrapper.register_comm_hook(counted, counting_hook)
    before = set(vars(wrapper))
    settings_before = {name: repr(getattr(wrapper, name, None)) for name in SETTINGS}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data, worst, on_wire, expected = Data(), [], [], []
    for phase, spec in enumerate(SPECS):
        if phase:
            check_wrapper(called, model)
            frozen = freeze_(model, spec)
            broadcast_held(model, frozen.plan.eval_modules or ())
            change(called)
        model.train()
        counted[0] = 0
        apart = 0.0
        for _ in range(STEPS):
            x, y = data.batch()
            mse_loss(called(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            apart = max(apart, divergence(model))
        worst.append(apart)
        on_wire.append(counted[0])
        expected.append(trained_bytes(model) * STEPS)
    settings_after = {name: repr(getattr(wrapper, name, None)) for name in SETTINGS}
    return {
        "divergence": worst,
        "on_wire": on_wire,
        "trained": expected,
        "weights": [d.hex() for d in digest(list(model.parameters()))],
        "lost": sorted(before - set(vars(wrapper))),
        "settings": [settings_before, settings_after],
        "hooks": len(wrapper._comm_hooks),
        "comm_hook": wrapper._get_ddp_logging_data().get("comm_hook"),
    }


def count(_: DistributedDataParallel) -> None:
    """Stand for the hook that `train` registers with its own list."""


def fp16(wrapper: DistributedDataParallel) -> None:
    wrapper.register_comm_hook(None, default_hooks.fp16_compress_hook)


def power(wrapper: DistributedDataParallel) -> None:
    state = powerSGD_hook.PowerSGDState(None, start_powerSGD_iter=2, min_compression_rate=0.1)
    wrapper.register_comm_hook(state, powerSGD_hook.powerSGD_hook)


def built_in(wrapper: DistributedDataParallel) -> None:
    kind = torch._C._distributed_c10d.BuiltinCommHookType.FP16_COMPRESS
    wrapper._register_builtin_comm_hook(kind)


def anew(wrapper: DistributedDataParallel) -> None:
    """Rebuild as under a torch whose internals are unknown."""
    reducer._INTERNALS["_unknown"] = []
    try:
        rebuild_(wrapper)
    finally:
        del reducer._INTERNALS["_unknown"]


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "counted": {"prepare": count},
    "find unused": {"find_unused_parameters": True},
    "views": {"gradient_as_bucket_view": True},
    "small buckets": {"bucket_cap_mb": 0.0001},
    "no buffers": {"broadcast_buffers": False},
    "skip unused": {"find_unused_parameters": True, "skip_all_reduce_unused_params": True},
    "fp16": {"prepare": fp16},
    "PowerSGD": {"prepare": power},
    "built-in hook": {"prepare": built_in},
    "compiled inside": {"compiled": "inside"},
    "compiled outside": {"compiled": "outside"},
}


def new_group() -> dict[str, Any]:
    return train(process_group=distributed.new_group([0, 1]))


def reference() -> dict[str, Any]:
    """Train as with a new wrapper for each phase."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = Data()
    for spec in SPECS:
        frozen = freeze_(model, spec)
        broadcast_held(model, frozen.plan.eval_modules or ())
        wrapper = DistributedDataParallel(model, init_sync=False)
        model.train()
        for _ in range(STEPS):
            x, y = data.batch()
            mse_loss(wrapper(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        del wrapper
    return {"weights": [d.hex() for d in digest(list(model.parameters()))]}


def refusals() -> dict[str, str]:
    model = net()
    plain = DistributedDataParallel(model)
    said: dict[str, str] = {}

    @contextmanager
    def refused(name: str) -> Iterator[None]:
        try:
            yield
            said[name] = "accepted"
        except FreezekitError as error:
            said[name] = f"{type(error).__name__}: {error}"

    with refused("plain"):
        check_wrapper(plain, model)
    with refused("part"):
        check_wrapper(plain, model.body)
    with refused("no wrapper"):
        check_wrapper(model, model)
    with refused("another model"):
        check_wrapper(plain, net())
    with refused("no_sync"), plain.no_sync():
        check_wrapper(plain, model)
    with refused("static"):
        check_wrapper(DistributedDataParallel(model, static_graph=True), model)
    other = net()
    first, *_, last = dict(other.named_parameters()).items()
    delayed = DistributedDataParallel(
        other, delay_all_reduce_named_params=[last], param_to_hook_all_reduce=first[1]
    )
    with refused("delayed"):
        check_wrapper(delayed, other)
    plain.mixed_precision = object()  # it cannot be made on a CPU
    with refused("mixed precision"):
        check_wrapper(plain, model)
    plain.mixed_precision = None
    torch._dynamo.config.optimize_ddp = "python_reducer"
    with refused("python reducer"):
        check_wrapper(DistributedDataParallel(third := net()), third)
    torch._dynamo.config.optimize_ddp = True
    hook = model.head.register_forward_hook(lambda *_: check_wrapper(plain, model))
    with refused("in forward"):
        plain(torch.ones(2, 4))
    hook.remove()
    loss = plain(torch.ones(2, 4)).sum()
    hook = model.body[0][0].weight.register_hook(lambda _: check_wrapper(plain, model))
    with refused("in backward"):
        loss.backward()
    hook.remove()
    model.head.weight._in_backward_optimizers = []
    with refused("optimizer in backward"):
        check_wrapper(plain, model)
    del model.head.weight._in_backward_optimizers
    hooks = vars(plain).pop("_comm_hooks")
    with refused("unknown torch"):
        check_wrapper(plain, model)
    plain._comm_hooks = hooks
    model.requires_grad_(False)
    with refused("nothing trained"):
        rebuild_(plain)
    model.requires_grad_(True)
    return said


def unused_without_flag() -> str:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.other = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    wrapper = DistributedDataParallel(model := Part())
    wrapper(torch.ones(1, 2)).sum().backward()
    try:
        check_wrapper(wrapper, model)
    except FreezekitError as error:
        return str(error)
    return "accepted"


def stale() -> dict[str, Any]:
    """Change between a forward and its backward, then go on as the error says."""
    model = net()
    wrapper = DistributedDataParallel(model)
    data = Data()
    loss = wrapper(data.batch()[0]).sum()
    freeze_(model, TWO_PARTS)
    rebuild_(wrapper)
    try:
        loss.backward()
        said = "accepted"
    except FreezekitError as error:
        said = str(error)
    model.zero_grad()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        wrapper(data.batch()[0]).square().sum().backward()
        optimizer.step()
    return {"said": said, "divergence": divergence(model), "hooks": len(wrapper._forward_pre_hooks)}


def accumulated() -> dict[str, Any]:
    """Change with gradients that were reduced and not yet used, with views of buckets."""
    model = net()
    wrapper = DistributedDataParallel(model, gradient_as_bucket_view=True)
    data = Data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        wrapper(data.batch()[0]).square().sum().backward()
    freeze_(model, TWO_PARTS)
    kept = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    rebuild_(wrapper)
    now = [p.grad for p in model.parameters() if p.grad is not None]
    same = len(kept) == 6 and all(map(torch.equal, kept, now))
    wrapper(data.batch()[0]).square().sum().backward()
    optimizer.step()
    return {"same": same, "divergence": divergence(model)}


def joined() -> dict[str, Any]:
    """Let rank 0 run out of input after a change inside `join()`, whose hooks must be in force."""
    model = net()
    freeze_(model, HEAD)
    wrapper = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    data = Data()
    with wrapper.join():
        for step in range(4 + 3 * distributed.get_rank()):
            if step == 2:
                freeze_(model, TWO_PARTS)
                rebuild_(wrapper)
            x, y = data.batch()
            mse_loss(wrapper(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    return {"divergence": divergence(model)}


def held_buffers() -> dict[str, Any]:
    model = net()
    rank = distributed.get_rank()
    with torch.no_grad():
        for buffer in model.buffers():
            buffer.copy_(torch.full_like(buffer, rank))
    model.body[0].register_buffer("local", torch.full((2 + rank,), 1.0 * rank))
    model.body[0].local._ddp_ignored = True
    broadcast_held(model, ["body.0", "body.0.1"])
    return {name: buffer.tolist() for name, buffer in model.named_buffers()}


def found_wrappers() -> dict[str, Any]:
    model = net()
    none = list(wrappers_of(model))
    outer = nn.ModuleDict({"net": model})
    wrapper = DistributedDataParallel(outer)
    return {"none": len(none), "found": [w is wrapper for w in wrappers_of(model)]}


def wrapped_after_follow() -> str:
    """Return what is said where the wrapper was made after `follow`, which does not know it."""
    model = net()
    frozen = freeze_(model, HEAD)
    optimizer = torch.optim.SGD(frozen.param_groups(0.1, all_phases=True))
    run = frozen.follow(f"{HEAD} then full at 1ep", optimizer, epochs=2)
    wrapper = DistributedDataParallel(model)
    wrapper(torch.rand(6, 4)).sum().backward()
    optimizer.step()
    try:
        run.step()
    except FreezekitError as error:
        return str(error)
    return ""


SITUATIONS: dict[str, Callable[[], object]] = {
    "wrapped after follow": wrapped_after_follow,
    "reference": reference,
    "new group": new_group,
    "without rebuild": lambda: train(change=lambda _: None),
    "refusals": refusals,
    "unused without flag": unused_without_flag,
    "stale": stale,
    "accumulated": accumulated,
    "joined": joined,
    "held buffers": held_buffers,
    "found wrappers": found_wrappers,
}
for _name, _settings in WAYS.items():
    SITUATIONS[f"in place, {_name}"] = lambda s=_settings: train(**s)
    if "compiled" not in _name:
        SITUATIONS[f"anew, {_name}"] = lambda s=_settings: train(change=anew, **s)


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")  # freeze_() says to wrap anew, which rebuild_ makes needless
    distributed.init_process_group("gloo")
    for name, situation in SITUATIONS.items():
        found = json.dumps(situation())
        (folder / f"{name}-{distributed.get_rank()}.json").write_text(found)
        distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
