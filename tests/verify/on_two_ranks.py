"""A script for torchrun: `verify` on two ranks, in situations whose results go to a folder.

Run by `test_ranks.py` as `torchrun --nproc-per-node 2 on_two_ranks.py FOLDER`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from freezekit import FreezekitError, Frozen, Verification, freeze_, verify_model
from freezekit.schedules import rendezvous

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC = "by-name:contains=body"


def frozen_net(spec: str = SPEC, extra: bool = False) -> Frozen:
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("body", nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    net.add_module("head", nn.Linear(4, 2))
    if extra:
        net.add_module("extra", nn.Linear(2, 2))
    return freeze_(net, spec)


def inputs() -> torch.Tensor:
    return torch.rand(3, 4)  # another one on each rank


@torch.no_grad()
def add_one(tensor: torch.Tensor) -> None:
    tensor.add_(1.0 * distributed.get_rank())


def same() -> Verification:
    return frozen_net().verify(inputs(), steps=1)


def frozen_weight() -> Verification:
    frozen = frozen_net()
    add_one(frozen.backbone.model.body[0].weight)
    return frozen.verify(inputs(), steps=1)


def statistics() -> Verification:
    frozen = frozen_net()
    add_one(frozen.backbone.model.body[1].running_mean)
    return frozen.verify(inputs(), steps=1)


def trained_without_ddp() -> Verification:
    frozen = frozen_net()
    add_one(frozen.backbone.model.head.weight)
    return frozen.verify(inputs(), steps=1)


def trained_in_ddp() -> Verification:
    frozen = frozen_net()
    wrapper = DistributedDataParallel(frozen.backbone.model)
    add_one(frozen.backbone.model.head.weight)
    found = frozen.verify(inputs(), steps=1)
    assert wrapper.module is frozen.backbone.model
    return found


def wrapper_itself() -> Verification:
    wrapper = DistributedDataParallel(frozen_net().backbone.model)
    add_one(wrapper.module.head.bias)
    return verify_model(wrapper, inputs(), steps=1)


def after_training_in_ddp() -> Verification:
    frozen = frozen_net()
    wrapper = DistributedDataParallel(frozen.backbone.model)
    optimizer = torch.optim.SGD(frozen.param_groups(lr=0.1), lr=0.1)
    for _ in range(2):
        wrapper(inputs()).square().sum().backward()
        optimizer.step()
        found = frozen.verify(inputs(), steps=1, optimizer=optimizer)
        optimizer.zero_grad()
    return found


def other_plan() -> Verification:
    spec = SPEC if distributed.get_rank() == 0 else "by-name:contains=body.0"
    return frozen_net(spec).verify(inputs(), steps=1)


def other_model() -> Verification:
    return frozen_net(extra=distributed.get_rank() == 1).verify(inputs(), steps=1)


def one_rank_alone() -> Verification | None:
    return same() if distributed.get_rank() == 0 else None


SITUATIONS: dict[str, Callable[[], Verification | None]] = {
    "same": same,
    "frozen weight": frozen_weight,
    "statistics": statistics,
    "trained without DDP": trained_without_ddp,
    "trained in DDP": trained_in_ddp,
    "wrapper itself": wrapper_itself,
    "after training in DDP": after_training_in_ddp,
    "other plan": other_plan,
    "other model": other_model,
    "one rank alone": one_rank_alone,
    "same again": same,  # an attempt that was called off leaves nothing behind
}


def main(folder: Path) -> None:
    distributed.init_process_group("gloo")
    for name, situation in SITUATIONS.items():
        rendezvous.TIMEOUT_SECONDS = 1.0 if situation is one_rank_alone else 60.0
        try:
            found = situation()
            text = found.to_json() if found else "null"
        except FreezekitError as error:
            text = json.dumps({"error": f"{type(error).__name__}: {error}"})
        (folder / f"{name}-{distributed.get_rank()}.json").write_text(text)
        distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
