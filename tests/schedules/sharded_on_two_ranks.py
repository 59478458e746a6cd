"""A script for ranks: changes of a model under `fully_shard`, on two ranks.

Run by `test_sharded.py`, which reads what each situation returns.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from freezekit import FreezekitError, FreezePlan, freeze_
from freezekit.schedules.sharded import check_sharded, reshard_
from tests.schedules.training import PER_EPOCH, Net, batch

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 4
"""In each phase."""
SCHEDULES = "freeze-out", "auto-rgn", "plasticity:every=2"
"""Rates of each step, gradients that are observed, outputs that are observed."""
EPOCHS = 2


def net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential()
    body = [nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU()) for _ in range(2)]
    model.add_module("body", nn.Sequential(*body))
    model.add_module("head", nn.Linear(8, 4))
    return model


def plans() -> list[FreezePlan]:
    """Return the plans of all phases: the head, the back, all, the front alone, and back."""
    names = [name for name, _ in net().named_parameters()]
    head = [name for name in names if name.startswith("body")]
    back = [name for name in names if name.startswith("body.0")]
    front = [name for name in names if not name.startswith("body.0")]
    return [FreezePlan(each, eval_modules=()) for each in (head, back, [], front, back, head)]


def shard(model: nn.Module, per_stage: bool) -> nn.Module:
    mesh = init_device_mesh("cpu", (2,))
    if per_stage:
        for stage in (*model.body, model.head):
            fully_shard(stage, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def whole(tensor: Any) -> torch.Tensor:
    found = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found.detach().clone()


class Traffic(TorchDispatchMode):
    """Count the bytes of the whole tensors that collectives gather or reduce, by their kind."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if func.namespace == "c10d":
            sizes = [t.nbytes for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
            self.bytes[func._opname.strip("_")] += max(sizes)
        return result


def train(per_stage: bool | None, make: Callable[[Any], torch.optim.Optimizer]) -> dict[str, Any]:
    """Train through all phases, in one process on all data where the model is not sharded."""
    model = net()
    decided = plans()
    # Its own input: without one, many images are tried at each change, as none gives stages.
    frozen = freeze_(model, decided[0], example_input=torch.ones(2, 8))
    if per_stage is not None:
        shard(model, per_stage)
    optimizer = make(frozen.param_groups(0.01, 0.0, all_phases=True))
    data = torch.Generator().manual_seed(0)
    found: dict[str, Any] = {"weights": [], "sent": [], "trained": [], "moved": [], "expected": []}
    for phase in decided:
        frozen.change_(phase, optimizer)
        before = {name: whole(p) for name, p in model.named_parameters()}
        traffic = Traffic()
        for _ in range(STEPS):
            x, y = torch.randn(8, 8, generator=data), torch.randn(8, 4, generator=data)
            if per_stage is not None:
                rank = distributed.get_rank()
                x, y = x.chunk(2)[rank], y.chunk(2)[rank]
            with traffic:
                mse_loss(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        after = {name: whole(p) for name, p in model.named_parameters()}
        found["weights"].append(torch.cat([p.reshape(-1) for p in after.values()]).tolist())
        found["sent"].append(traffic.bytes)
        found["trained"].append(sum(p.nbytes for n, p in after.items() if n not in phase.frozen))
        found["moved"].append(sorted(n for n in after if not torch.equal(before[n], after[n])))
        found["expected"].append(sorted(set(before) - phase.frozen))
        with torch.no_grad():
            model(x)  # an evaluation before the next change
    return found


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, momentum=0.9)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters)


def after_evaluation(with_reshard: bool) -> list[list[str]]:
    """Return what has gradients in the steps after an evaluation and a change."""
    model = net()
    head, back, *_ = plans()
    frozen = freeze_(model, head)
    shard(model, per_stage=False)
    model(torch.ones(2, 8)).sum().backward()
    model.zero_grad()
    with torch.no_grad():
        model(torch.ones(2, 8))
    if with_reshard:
        frozen.change_(back)
    else:
        freeze_(model, back)
    found = []
    for _ in range(3):
        model(torch.rand(2, 8)).square().sum().backward()
        found.append(sorted(n for n, p in model.named_parameters() if p.grad is not None))
        model.zero_grad()
    return found


def following(schedule: str, sharded: bool) -> dict[str, Any]:
    """Follow a schedule, on half of each batch where the model is sharded."""
    torch.manual_seed(0)
    model = Net()
    frozen = freeze_(model, "full")
    assert frozen.backbone.stages  # found before the model is sharded
    rank = distributed.get_rank()
    if sharded:
        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    optimizer = sgd(frozen.param_groups(0.05, 0.01, all_phases=True))
    run = frozen.follow(
        schedule, optimizer, epochs=EPOCHS, steps_per_epoch=PER_EPOCH, sample=batch(99)[0]
    )
    model.eval()  # no dropout, and statistics of no half batch
    sizes = []
    for step in range(EPOCHS * PER_EPOCH):
        images, labels = batch(step)
        if sharded:
            images, labels = images.chunk(2)[rank], labels.chunk(2)[rank]
        cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        run.step()
        with torch.no_grad():
            model(images)  # its whole parameters stay gathered until the next change
        if step % PER_EPOCH == PER_EPOCH - 1:
            run.epoch({"loss": 1.0})
        sizes.append(len(run.plan.frozen))
    return {"frozen": sizes, "weights": [whole(p).tolist() for p in model.parameters()]}


def accumulating(per_stage: bool) -> list[Any]:
    """Return what is said in an accumulation, and which frozen parameters would get gradients."""
    model = net()
    frozen = freeze_(model, "full")
    shard(model, per_stage)
    model.set_requires_gradient_sync(False)
    model(torch.rand(2, 8)).square().sum().backward()
    try:
        frozen.change_(plans()[1])
        said = "accepted"
    except FreezekitError as error:
        said = str(error)
    reshard_(model)
    freeze_(model, plans()[1])
    model.set_requires_gradient_sync(True)
    model(torch.rand(2, 8)).square().sum().backward()
    wrong = [n for n, p in model.named_parameters() if not p.requires_grad and p.grad is not None]
    check_sharded(model)  # all were reduced
    return [said, wrong]


SITUATIONS: dict[str, Callable[[], object]] = {
    "one process, sgd": lambda: train(None, sgd),
    "whole, sgd": lambda: train(False, sgd),
    "per stage, sgd": lambda: train(True, sgd),
    "one process, adamw": lambda: train(None, adamw),
    "whole, adamw": lambda: train(False, adamw),
    "per stage, adamw": lambda: train(True, adamw),
    "evaluation": lambda: after_evaluation(with_reshard=True),
    "evaluation without reshard": lambda: after_evaluation(with_reshard=False),
    **{
        f"{schedule}, {way}": lambda schedule=schedule, way=way: following(schedule, way == "whole")
        for schedule in SCHEDULES
        for way in ("whole", "one process")
    },
    "accumulating, whole": lambda: accumulating(per_stage=False),
    "accumulating, per stage": lambda: accumulating(per_stage=True),
}


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")  # freeze_() advises about wrappers, of which there is none
    distributed.init_process_group("gloo")
    for name, situation in SITUATIONS.items():
        found = json.dumps(situation())
        (folder / f"{name}-{distributed.get_rank()}.json").write_text(found)
        distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
