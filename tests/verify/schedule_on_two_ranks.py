"""A script for ranks: a schedule is verified under DistributedDataParallel.

Run by `test_schedule_ranks.py`, which reads what each situation returns.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from freezekit import Verification, freeze_, verify_model
from freezekit.schedules import change
from freezekit.testing import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn


def model() -> nn.Module:
    torch.manual_seed(0)
    return MODELS["residual"]()


def images() -> Tensor:
    torch.manual_seed(distributed.get_rank())  # others on each rank
    return torch.rand(2, 3, 32, 32)


def scheduled(text: str) -> Verification:
    return freeze_(model(), "head-only").verify_schedule(text, images())


def not_rebuilt() -> Verification:
    with _patched(lambda ddp: None):
        return scheduled("head-only then full at 1ep")


@contextmanager
def _patched(rebuild: Callable[[object], None]) -> Iterator[None]:
    right = change.rebuild_
    change.rebuild_ = rebuild
    try:
        yield
    finally:
        change.rebuild_ = right


def by_hand(*, thaws: bool, find_unused_parameters: bool = False) -> Verification:
    """Do as Lightning's `BackboneFinetuning`: freeze, wrap, and thaw what is wrapped already."""
    net, batch = model(), images()
    body = [net.conv1, net.bn1, net.layer1, net.layer2]
    for module in [*body, net.layer3]:
        module.requires_grad_(False)
    wrapper = DistributedDataParallel(net, find_unused_parameters=find_unused_parameters)
    optimizer = torch.optim.SGD(net.fc.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(2):
        if epoch and thaws:
            net.layer3.requires_grad_(True)
            optimizer.add_param_group({"params": list(net.layer3.parameters()), "lr": 0.01})
        for _ in range(2):
            wrapper.train()
            for module in body if epoch and thaws else [*body, net.layer3]:
                module.eval()
            optimizer.zero_grad()
            wrapper(batch).square().mean().backward()
            optimizer.step()
    return verify_model(wrapper, batch, steps=1)


SITUATIONS: dict[str, Callable[[], Verification]] = {
    "right": partial(scheduled, "head-only then full at 1ep"),
    "observed": partial(scheduled, "on-plateau:patience=1,restore_best=true"),
    "not rebuilt": not_rebuilt,
    "by hand, before": partial(by_hand, thaws=False),
    "by hand": partial(by_hand, thaws=True),
    "by hand, unused": partial(by_hand, thaws=True, find_unused_parameters=True),
}


def main(folder: Path) -> None:
    distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
    for name, situation in SITUATIONS.items():
        found = situation().to_json()
        (folder / f"{name}-{distributed.get_rank()}.json").write_text(found)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
