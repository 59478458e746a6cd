"""Lean compared with stock on a CUDA device: bits, memory, the largest batch, step times.

    python -m benchmarks.lean.cuda [--part PART]... [--model NAME]... [--kernels] [--out FILE.jsonl]
    python -m benchmarks.lean.cuda --page       # the tables of the page about lean

- `memory`: two copies are trained side by side in float32, under bfloat16 autocast, and under
  autocast in channels-last, with deterministic kernels. Losses, gradients and buffers must have the
  same bits, and `max_memory_allocated` of a step must not be more. The predicted peak is given too.
- `batch`: the largest batch whose step stays within 8 GiB by `max_memory_allocated`, found by real
  steps.
- `steps`: step times of lean and stock, interleaved in blocks as by `freezekit bench`.

With `--kernels`, the CUDA kernels for bits and plain torch on bits are timed too, on a hundred
million elements.

About ten minutes on a large device. Each row is written when it is known, and replaces rows of the
same part and model. Parts that are not timed can run at the same time, into different files.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import warnings
from functools import partial
from math import inf
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from benchmarks.facts import environment
from benchmarks.lean.compare import train
from benchmarks.lean.subject import live_in
from freezekit.bench.design import Design
from freezekit.bench.memory import cuda_peak_bytes
from freezekit.bench.static import predicted_memory
from freezekit.bench.statistics import append_block, summarise
from freezekit.bench.timing import run_timing
from freezekit.bench.workload import Session, load, prepare, with_shape
from freezekit.errors import FreezekitError
from freezekit.fit.search import largest_batch
from freezekit.lean import bits_in_torch
from freezekit.lean.bit_operators import cuda_kernels
from freezekit.lean.bits import bits_backward, pack_bits
from freezekit.model.tasks import make_inputs
from freezekit.results.records import Raw, Workload
from freezekit.results.variant import Variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OUT = Path(__file__).parents[1] / "results" / "lean-cuda.jsonl"
MODELS = {
    "resnet50": Workload("torchvision:resnet50", batch_size=64, image_size=224, device="cuda"),
    "efficientnet_b0": Workload("timm:efficientnet_b0", batch_size=64, device="cuda"),
    "vit_small_patch16_224": Workload("timm:vit_small_patch16_224", batch_size=64, device="cuda"),
}
WAYS: dict[str, dict[str, Any]] = {  # Any: fields of a workload
    "float32": {},
    "bfloat16 autocast": {"amp": "bfloat16"},
    "channels-last, bfloat16 autocast": {"amp": "bfloat16", "channels_last": True},
}
_SHOWN = "float32", "bfloat16 autocast"
SPECS = "full", "batch-norm", "norm-only", "bias-only", "surgical:stages=stem"
LIMIT = 8 * 2**30
DESIGN = Design(blocks=6, warmup=4)

Row = dict[str, Any]  # Any: JSON


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="only these")
    parser.add_argument("--kernels", action="store_true", help="time the kernels too")
    parser.add_argument("--model", action="append", choices=MODELS, help="only these")
    parser.add_argument("--page", action="store_true", help="print the tables, run nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if given.page:
        print(as_page(_read(OUT)))
        return
    if not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device on this machine")
    warnings.simplefilter("ignore")  # strategies warn that little is frozen; kernels warn too
    lines = _read(given.out)
    for part in given.part or PARTS:
        for name in given.model or MODELS:
            lines = [line for line in lines if (line["part"], line.get("model")) != (part, name)]
            for row in PARTS[part](MODELS[name]):
                lines.append({"part": part, "model": name} | row)
                print(_line(lines[-1]), flush=True)
                _write(given.out, lines)
    if given.kernels:
        lines = [line for line in lines if line["part"] != "kernels"]
        lines += [{"part": "kernels"} | row for row in kernels()]
        _write(given.out, lines)


def _read(file: Path) -> list[Row]:
    text = file.read_text() if file.exists() else ""
    return [row for row in map(json.loads, text.splitlines()) if row["part"] != "environment"]


def _write(file: Path, lines: list[Row]) -> None:
    known = environment() | {
        "device": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
    }
    text = "".join(json.dumps(line) + "\n" for line in ({"part": "environment"} | known, *lines))
    half = file.with_suffix(".half")
    half.write_text(text)
    half.replace(file)


def memory(workload: Workload) -> Iterator[Row]:
    """Compare lean with stock, bit by bit and byte by byte, for every precision and strategy."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    for way, fields in WAYS.items():
        for spec in SPECS:
            row = _guarded(partial(_compared, msgspec.structs.replace(workload, **fields), spec))
            yield {"way": way, "strategy": spec} | row
    torch.use_deterministic_algorithms(False)


def _compared(workload: Workload, spec: str) -> Row:
    small = msgspec.structs.replace(workload, batch_size=8)
    stock, lean = (_session(small, spec, lean=lean) for lean in (False, True))
    different, blind = train(stock, lean)
    row: Row = {"exact": not different, "blind": blind}
    if different:
        row["differs"] = dict(list(different.items())[:4])
        again = (_session(small, spec, lean=False) for _ in range(2))
        row["stock_differs_from_itself"] = len(train(*again)[0])
    del stock, lean
    for column in ("stock", "lean"):
        _forget()
        session = _session(workload, spec, lean=column == "lean")
        session.step()
        measured = cuda_peak_bytes(session)
        del session
        row[column] = {"measured_peak_bytes": measured}
        variant = Variant(spec, lean=column == "lean")
        predicted = predicted_memory(workload, variant, registry=None)
        row[column]["predicted_peak_bytes"] = predicted.peak_bytes
    return row


def batch(workload: Workload) -> Iterator[Row]:
    """Find the largest batches within `LIMIT`, by real steps."""
    for spec in SPECS:
        row: Row = {"strategy": spec, "limit_bytes": LIMIT}
        for column in ("stock", "lean"):
            row[column] = _guarded(partial(_largest, workload, spec, lean=column == "lean"))
        yield row


def _largest(workload: Workload, spec: str, *, lean: bool) -> Row:
    peaks: dict[int, int] = {}

    def peak(size: int) -> int:
        _forget()
        session = _session(msgspec.structs.replace(workload, batch_size=size), spec, lean=lean)
        session.step()
        peaks[size] = cuda_peak_bytes(session)
        return peaks[size]

    found = largest_batch(peak, LIMIT)
    return {
        "batch": found.batch,
        "peak_bytes": peaks[found.batch],
        "next_peak_bytes": found.next_peak_bytes,
    }


def kernels() -> list[Row]:
    """Time packing and the backward of ReLU: stock, plain torch on bits, the kernels on bits."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        values = torch.randn(10**8, device="cuda", dtype=dtype).relu_()
        grad = torch.randn_like(values)
        packed = pack_bits(values, 0.0, inf)
        asked = packed, 1.0, 0.0, "threshold_backward"
        numbers = [0.0]
        rows.append(
            {
                "dtype": str(dtype).removeprefix("torch."),
                "elements": values.numel(),
                "by_kernels": cuda_kernels() is not None,
                "seconds": {
                    "stock backward": _seconds(
                        partial(torch.ops.aten.threshold_backward, grad, values, 0.0)
                    ),
                    "pack, plain": _seconds(
                        partial(bits_in_torch.pack, values, 0.0, inf, inside=False)
                    ),
                    "pack": _seconds(partial(pack_bits, values, 0.0, inf)),
                    "backward, plain": _seconds(
                        partial(bits_in_torch.backward, grad, *asked, numbers)
                    ),
                    "backward": _seconds(partial(bits_backward, grad, *asked, numbers)),
                },
            }
        )
        print("  ", rows[-1], flush=True)
    return rows


def _seconds(action: Callable[[], object]) -> float:
    took = []
    for _ in range(8):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        action()
        end.record()
        torch.cuda.synchronize()
        took.append(begin.elapsed_time(end) / 1000)
    return median(took[3:])


def steps(workload: Workload) -> Iterator[Row]:
    """Time all strategies, lean and stock, in one run for each way."""
    for way in ("float32", "bfloat16 autocast"):
        run = _guarded(partial(_timed, msgspec.structs.replace(workload, **WAYS[way])))
        yield {"way": way} | run


def _timed(workload: Workload) -> Row:
    variants = {v.label: v for spec in SPECS for v in (Variant(spec), Variant(spec, lean=True))}
    raw, failed = Raw(), []
    for event in run_timing(workload, variants, design=DESIGN):
        if event["event"] == "block":
            raw = append_block(raw, event)
        elif event["event"] == "failed":
            failed.append(event)
    stock = {v.label: v.stock.label for v in variants.values() if v.lean}
    found = summarise(raw, list(variants), stock)
    rows = [
        {
            "strategy": variants[label].spec,
            "ratio": time.ratio_to_stock,
            "ratio_ci": time.ratio_to_stock_ci,
            "lean_seconds": time.step_seconds.median,
            "stock_seconds": found.times[stock[label]].step_seconds.median,
        }
        for label, time in found.times.items()
        if label in stock and time.ratio_to_stock_ci
    ]
    raw_data = msgspec.to_builtins(raw)
    return {"rows": rows, "failed": failed, "noise_floor": found.noise_floor, "raw": raw_data}


def _session(workload: Workload, spec: str, *, lean: bool) -> Session:
    torch.manual_seed(workload.seed)
    model = load(workload, "cuda")
    workload = with_shape(workload, model)
    assert workload.input_shape is not None
    small = (min(8, workload.batch_size), *workload.input_shape[1:])
    live_in(model, make_inputs(model, small))
    return prepare(workload, model, spec, lean=lean)


def _forget() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def _guarded(action: Callable[[], Row]) -> Row:
    """Run the action; an error becomes a row."""
    try:
        return action()
    except FreezekitError as error:
        return {"refused": str(error)[:300]}
    except Exception as error:  # noqa: BLE001  # an error in lean, or out of memory
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    finally:
        _forget()


def _line(line: Row) -> str:
    start = f"{line['model']:24}{line.get('way', ''):34}{line.get('strategy', ''):22}"
    if said := line.get("refused") or line.get("error"):
        return f"{start}{said}"
    if line["part"] == "steps":
        cells = [
            f"{row['strategy']} {row['ratio']:.3f} [{low:.3f}, {high:.3f}]"
            for row in line["rows"]
            for low, high in [row["ratio_ci"]]
        ]
        return "\n    ".join([start, *cells])
    if line["part"] == "batch":
        return f"{start}{line['stock']} {line['lean']}"
    sides = line["stock"], line["lean"]
    stock, lean = (side["measured_peak_bytes"] for side in sides)
    off = (s["measured_peak_bytes"] / s["predicted_peak_bytes"] for s in sides)
    said = "same bits" if line["exact"] else f"differs {line['differs']}"
    return (
        f"{start}{lean / stock:7.1%} of {stock / 2**20:.0f} MiB; of what was predicted "
        f"{', '.join(f'{ratio:.3f}' for ratio in off)}; {said}"
    )


def as_page(lines: list[Row]) -> str:
    """Return the tables of the page about lean: peaks, then step times."""
    heads = [f"{name}, {way}" for name in ("resnet50", "efficientnet_b0") for way in _SHOWN]
    heads.append("vit_small, float32")
    peaks, times = ([_row("lean / stock", heads), "|---" * (len(heads) + 1) + "|"] for _ in "12")
    cells = [(name, way) for name in MODELS for way in _SHOWN][: len(heads)]
    for spec in SPECS:
        peaks.append(_row(f"`{spec}`", [_peak(lines, *cell, spec) for cell in cells]))
        times.append(_row(f"`{spec}`", [_time(lines, *cell, spec) for cell in cells]))
    return "\n".join([*peaks, "", *times])


def _row(first: str, cells: list[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def _peak(lines: list[Row], model: str, way: str, spec: str) -> str:
    for line in lines:
        key = line["part"], line.get("model"), line.get("way"), line.get("strategy")
        if key == ("memory", model, way, spec) and "lean" in line:
            lean, stock = (line[side]["measured_peak_bytes"] for side in ("lean", "stock"))
            return f"{lean / stock:.1%} of {stock / 2**20:.0f} MiB".replace("%", " %")
    return "refused"


def _time(lines: list[Row], model: str, way: str, spec: str) -> str:
    for line in lines:
        if (line["part"], line.get("model"), line.get("way")) == ("steps", model, way):
            for row in line["rows"]:
                if row["strategy"] == spec:
                    low, high = row["ratio_ci"]
                    return f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]"
    return "refused"


PARTS: dict[str, Callable[[Workload], Iterator[Row]]] = {
    "memory": memory,
    "batch": batch,
    "steps": steps,
}

if __name__ == "__main__":
    main()
