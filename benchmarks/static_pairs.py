"""How long do static figures take, and how does that grow with the model?

    python -m benchmarks.static_pairs [-o FILE.json]

100 pairs: 25 models, from a test model of timm's to 300 million parameters, by four strategies, at
64 px or the size that the model wants, batch 8, one thread. Timed is `static_figures` with memory
and FLOPs, as `freezekit bench --static` asks it, in one process after torch and both libraries are
loaded. A pair that is in the file is not repeated. Growth is the slope of a line through the
logarithms of seconds and size, over all pairs: 1 is in proportion.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.facts import environment, write_whole
from freezekit import load_backbone
from freezekit.bench.static import static_figures
from freezekit.errors import FreezekitError
from freezekit.results.records import Workload

OUT = Path(__file__).parent / "results" / "static-pairs.json"
SIZED = 64
MODELS: dict[str, int | None] = {
    **dict.fromkeys(
        (
            "timm:test_resnet",
            "torchvision:shufflenet_v2_x0_5",
            "torchvision:mobilenet_v3_small",
            "torchvision:mobilenet_v3_large",
            "torchvision:efficientnet_b0",
            "torchvision:efficientnet_b4",
            "timm:regnety_002",
            "timm:regnety_032",
            "torchvision:densenet121",
            "torchvision:resnet18",
            "torchvision:resnet50",
            "torchvision:resnet101",
            "torchvision:resnet152",
            "torchvision:vgg16_bn",
            "torchvision:wide_resnet50_2",
            "timm:convnext_atto",
            "timm:convnext_tiny",
            "timm:convnext_base",
            "timm:vit_tiny_patch16_224",
            "timm:vit_small_patch16_224",
            "timm:vit_base_patch16_224",
            "timm:vit_large_patch16_224",
        ),
        SIZED,
    ),
    **dict.fromkeys(
        ("timm:hrnet_w18", "timm:swin_tiny_patch4_window7_224", "timm:mixer_s32_224"), None
    ),
}
SPECS = "full", "head-only", "first-n-stages:n=2", "bias-only"
Data = dict[str, Any]  # Any: JSON


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=OUT)
    out: Path = parser.parse_args().out
    pairs: list[Data] = json.loads(out.read_text())["pairs"] if out.exists() else []
    known = {(pair["model"], pair["strategy"]) for pair in pairs}
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of strategies, that little is frozen
    static_figures(Workload("torchvision:resnet18", image_size=32), "full")  # loads all there is
    for model, pixels in MODELS.items():
        for spec in SPECS:
            if (model, spec) in known:
                continue
            pairs.append(timed(model, pixels, spec))
            print(pairs[-1], flush=True)
            write(out, pairs)
    write(out, pairs)
    print(json.dumps(summary(pairs), indent=1))


def timed(model: str, pixels: int | None, spec: str) -> Data:
    backbone = load_backbone(model, device="meta", image_size=pixels)
    found: Data = {"model": model, "strategy": spec}
    found["parameters"] = sum(p.numel() for p in backbone.parameters())
    found["modules"] = sum(1 for _ in backbone.modules())
    start = time.perf_counter()
    try:
        figures = static_figures(Workload(model, image_size=pixels), spec)
    except FreezekitError as error:
        return {**found, "error": str(error)}
    found["seconds"] = round(time.perf_counter() - start, 3)
    return {**found, "peak_bytes": figures.memory.peak_bytes}


def summary(pairs: list[Data]) -> Data:
    done = [pair for pair in pairs if "seconds" in pair]
    seconds = sorted(pair["seconds"] for pair in done)
    if len({pair["model"] for pair in done}) < 2:
        return {"pairs": len(pairs), "timed": len(done)}
    return {
        "pairs": len(pairs),
        "timed": len(done),
        "seconds": {
            "least": seconds[0],
            "median": statistics.median(seconds),
            "most": seconds[-1],
        },
        "growth_with_modules": growth(done, "modules"),
        "growth_with_parameters": growth(done, "parameters"),
        "seconds_per_module_median": round(
            statistics.median(pair["seconds"] / pair["modules"] for pair in done), 5
        ),
    }


def growth(pairs: list[Data], size: str) -> Data:
    """Return the slope of the line through the logarithms, and how well it tells the seconds."""
    x = [math.log(pair[size]) for pair in pairs]
    y = [math.log(pair["seconds"]) for pair in pairs]
    return {
        "slope": round(statistics.linear_regression(x, y).slope, 3),
        "correlation": round(statistics.correlation(x, y), 3),
    }


def write(out: Path, pairs: list[Data]) -> None:
    write_whole(out, {"environment": environment(), "summary": summary(pairs), "pairs": pairs})


if __name__ == "__main__":
    main()
