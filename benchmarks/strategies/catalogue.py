"""The catalogue of strategies and schedules, from their docstrings, options and static figures.

`python -m benchmarks.strategies.catalogue` writes `plugins/CATALOGUE.md`. With `--measure` it
counts the figures again first, which takes some minutes.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from freezekit.plugins.registering import load_registry
from freezekit.results.store import load
from freezekit.spec.options import option_infos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from freezekit.plugins.registry import RegisteredSchedule, RegisteredStrategy
    from freezekit.results.records import Result, Row
    from freezekit.spec.named import Named

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "plugins" / "CATALOGUE.md"
FIGURES = ROOT / "benchmarks" / "results" / "strategies-static.json"

MODELS = (
    "torchvision:resnet50",
    "torchvision:efficientnet_b0",
    "timm:convnext_tiny",
    "timm:vit_small_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
)
SPECS = (
    "head-only",
    "first-n-stages:n=2",
    "last-n-stages:n=1",
    "fraction:share=0.6",
    "surgical:stages=first",
    "by-name:contains=bias",
    "batch-norm",
    "norm-only",
    "bias-only",
    "attention-only",
    "patch-embed",
    "discriminative-lr:decay=0.5,freeze_below=0.1",
    "layer-decay",
)
SCHEDULES = (
    "gradual-unfreeze",
    "lp-ft",
    "chain-thaw",
    "freeze-out",
    "one-cycle-unfreeze",
    "auto-rgn",
    "plasticity",
    "on-plateau",
)


def measure() -> None:
    """Count trainable shares, activations, peaks and FLOPs of every strategy on every model."""
    specs = [word for spec in SPECS for word in ("-s", spec)]
    command = [sys.executable, "-m", "freezekit", "bench", *MODELS, *specs, "--static"]
    subprocess.run([*command, "-o", str(FIGURES)], check=False)  # 4: some refuse some models


def page() -> str:
    """Return the catalogue as Markdown."""
    results = load(FIGURES)
    registered = load_registry().strategies
    own = {n: o for n, o in registered.items() if o.plugin.distribution == "freezekit"}
    order = ["full", *(spec.partition(":")[0] for spec in SPECS)]
    parts = [
        "# The built-in strategies\n\n"
        "The [schedules](#the-built-in-schedules) follow them.\n\n"
        "`python -m benchmarks.strategies.catalogue` writes this page from the docstrings and "
        "options of the strategies, and from static figures "
        "([`strategies-static.json`](../benchmarks/results/strategies-static.json)). The figures "
        f"are counted on shapes for batch {results[0].workload.batch_size}, "
        f"{results[0].workload.dtype}, SGD, in stock PyTorch. `trained` is the share of parameters "
        "that are trained. The other columns are shares of `full`: the activations that are saved "
        "for the backward pass, the peak of one step, and the FLOPs of forward and backward. "
        "`refused` means that the strategy does not fit the model.\n\n"
        "` + ` joins strategies and unites what they freeze. ` | ` joins strategies and unites "
        "what they train: `norm-only | bias-only` trains norms and biases, and "
        "`norm-only + bias-only` trains the biases of norms. Both need a space on each side, and "
        "` + ` binds more closely. "
        "A bar without spaces separates the items of an option: `by-name:contains=bn|norm`."
    ]
    parts += [_section(own[name], results) for name in sorted(own, key=order.index)]
    timed = load_registry().schedules
    parts.append(
        "# The built-in schedules\n\n"
        "A schedule decides what is frozen as training goes on. A time is a number of epochs "
        "(`1ep`), of optimizer steps (`500step`), or a share of the run (`50%`). A factor of the "
        "learning rate multiplies that of the optimizer, beside the multipliers of the strategy."
    )
    parts += [_schedule(timed[name]) for name in SCHEDULES]
    return "\n\n".join(parts) + "\n"


def _section(registered: RegisteredStrategy, results: Sequence[Result]) -> str:
    cls = registered.cls
    parts = _described(cls)
    table = [_cells(result, row) for result in results for row in _rows(result, cls.name)]
    if table and cls.name != "full":
        spec = next(row.strategy for result in results for row in _rows(result, cls.name))
        head = [f"`{spec}`", "trained", "saved activations", "peak", "FLOPs"]
        lines = [head, ["---"] * len(head), *table]
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(parts)


def _schedule(registered: RegisteredSchedule) -> str:
    example = (inspect.getdoc(registered.cls) or "").partition("\nExample:")[2]
    code = f"```python\n{textwrap.dedent(example).strip()}\n```"
    return "\n\n".join([*_described(registered.cls), code])


def _described(cls: type[Named]) -> list[str]:
    """Return the name, the prose of the docstring, and the table of options if there are any."""
    doc = (inspect.getdoc(cls) or "").partition("\nExample:")[0].strip()
    parts = [f"## `{cls.name}`", doc]
    options = option_infos(cls)
    if options:
        lines = ["| option | takes | default | |", "|---|---|---|---|"]
        for option in options:
            default = "required" if option.required else option.default_text or "(empty)"
            takes = option.type_text.replace("|", "\\|")
            lines.append(f"| `{option.name}` | {takes} | {default} | {option.help} |")
        parts.append("\n".join(lines))
    return parts


def _rows(result: Result, name: str) -> list[Row]:
    return [row for row in result.rows if row.strategy.partition(":")[0] == name]


def _cells(result: Result, row: Row) -> list[str]:
    model = result.workload.model.partition(":")[2]
    full = _rows(result, "full")[0]
    if row.status != "ok":
        return [model, "refused", "-", "-", "-"]
    pairs = (
        (row.memory.saved_activations_bytes, full.memory.saved_activations_bytes),
        (row.memory.peak_bytes, full.memory.peak_bytes),
        (_total(row), _total(full)),
    )
    assert row.parameters is not None
    share = row.parameters.trainable / row.parameters.total
    return [model, _percent(share), *(_percent(a / b) if a and b else "-" for a, b in pairs)]


def _total(row: Row) -> int | None:
    return row.flops and row.flops.forward + row.flops.backward


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    if "--measure" in sys.argv:
        measure()
    PAGE.write_text(page(), encoding="utf-8")
