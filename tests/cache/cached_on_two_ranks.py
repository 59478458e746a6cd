"""A script for ranks: two ranks fill a cache together and train from it.

Run by `test_ranks.py`, which reads what each situation returns.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset, TensorDataset

from freezekit import FreezekitError, freeze_
from freezekit.cache import rows

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES, BATCH, SIZE, CLASSES = 11, 2, 32, 3
SCHEDULE = "first-n-stages:n=2 then first-n-stages:n=1 at 1ep then head-only at 2ep"


def data(seed: int = 0) -> TensorDataset:
    source = torch.Generator().manual_seed(seed)
    images = torch.randn(SAMPLES, 3, SIZE, SIZE, generator=source)
    return TensorDataset(images, torch.randint(0, CLASSES, (SAMPLES,), generator=source))


class Broken(Dataset[Any]):
    """A data set that one rank cannot read to its end."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index == 6 and distributed.get_rank() == 1:
            raise OSError("the disk of rank 1 is broken")
        return data()[index]


def net() -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=CLASSES).train()
    with torch.no_grad():
        model(data()[:8][0])
    return model


def trained(dataset: Callable[[Any], Dataset[Any]]) -> dict[str, Any]:
    """Train through a schedule under DistributedDataParallel, each rank on its own samples."""
    model = net()
    frozen = freeze_(model, "first-n-stages:n=2")
    optimizer = torch.optim.SGD(frozen.param_groups(0.01, all_phases=SCHEDULE), momentum=0.9)
    ddp = DistributedDataParallel(model)
    run = frozen.follow(SCHEDULE, optimizer, epochs=3, ddp=ddp)
    found = dataset(frozen)
    sampler = DistributedSampler(found, seed=3)
    losses = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        model.train()
        for given, labels in DataLoader(found, BATCH, sampler=sampler):
            loss = cross_entropy(ddp(given), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.step()
            losses.append(loss.item().hex())
        losses.append(str(given.dim()))
        run.epoch()
    return {"losses": losses, "weights": sum(p.double().sum().item() for p in model.parameters())}


def on_images(_: Path) -> Any:
    return trained(lambda _: data())


def in_memory(_: Path) -> Any:
    return trained(lambda frozen: frozen.cache(data(), BATCH))


def in_a_folder(folder: Path) -> Any:
    found = trained(lambda frozen: frozen.cache(data(), BATCH, folder=folder / "shared"))
    return found | {"files": sorted(path.name for path in (folder / "shared").rglob("*.*"))}


def calls(_: Path) -> Any:
    """Return how often this rank runs the prefix, beside the checks before a fill."""
    frozen = freeze_(net(), "head-only")
    seen: list[int] = []
    frozen.backbone.model.layer1.register_forward_pre_hook(lambda *_: seen.append(1))
    counts = []
    for dataset in (data(), Subset(data(), range(BATCH))):
        frozen.cache(dataset, BATCH)
        counts.append(len(seen))
        seen.clear()
    return counts[0] - counts[1]


def one_is_broken(_: Path) -> Any:
    return len(freeze_(net(), "head-only").cache(Broken(), BATCH))


def other_data(_: Path) -> Any:
    return len(freeze_(net(), "head-only").cache(data(distributed.get_rank()), BATCH))


def own_folders(folder: Path) -> Any:
    own = folder / f"disk-{distributed.get_rank()}"
    return len(freeze_(net(), "head-only").cache(data(), BATCH, folder=own))


def sharded(_: Path) -> Any:
    model = net()
    frozen = freeze_(model, "head-only")
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    return len(frozen.cache(data(), BATCH))


SITUATIONS = [
    on_images,
    in_memory,
    in_a_folder,
    calls,
    one_is_broken,
    other_data,
    own_folders,
    sharded,
]


def main(folder: Path) -> None:
    distributed.init_process_group("gloo")
    warnings.simplefilter("ignore")
    rows.UNIT_BATCHES = 2  # several units in a small data set
    out, rank = folder, distributed.get_rank()
    scratch = folder.parent / f"{folder.name}-scratch"
    for situation in SITUATIONS:
        try:
            found = situation(scratch)
        except (FreezekitError, OSError) as error:
            found = f"{type(error).__name__}: {error}"
        (out / f"{situation.__name__}-{rank}.json").write_text(json.dumps(found))
        distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
