"""Tables of what `beside_finetuning_scheduler.py` found.

python -m benchmarks.trainers.beside_table
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.zoo.pool import ROOT

PATH = ROOT / "benchmarks" / "results" / "trainers-beside.json"
KINDS = {
    "weight": "weights of norms",
    "bias": "biases of norms",
    "running_mean": "running statistics",
}


def while_frozen(row: dict[str, Any]) -> str:  # Any: JSON
    """Return a line: what moved of a frozen backbone in an epoch."""
    moved = {name.rpartition(".")[2] for name in row["moved"]}
    said = ", ".join(text for kind, text in KINDS.items() if kind in moved) or "nothing"
    return (
        f"| {row['tool']} | {said} | {row['in_train_mode']} of {row['modules']} | "
        f"{row['features_of_an_image_apart']:.2g} |"
    )


def resumed(rows: list[dict[str, Any]]) -> list[str]:  # Any: JSON
    """Return the lines of resumes: a column for each tool and way."""
    keys = [key for key in rows[0] if key.startswith("after ")]
    heads = [f"{row['tool']}, `{row['question'].removeprefix('resumed, ')}`" for row in rows]
    lines = ["| checkpoint | " + " | ".join(heads) + " |", "|---|" + "---|" * len(rows)]
    for key in keys:
        kind, _, step = key.rpartition(" ")
        cells = [_cell(row[key]) for row in rows]
        lines.append(f"| {kind}, {step} | " + " | ".join(cells) + " |")
    return lines


def _cell(found: dict[str, Any]) -> str:  # Any: JSON
    if "raised" in found:
        return "error"
    if not found["differing"]:
        return "equal"
    stays = found["frozen_at_the_end"] - found["frozen_at_the_end_of_the_whole"]
    still = f", {stays} parameters still frozen at the end" if stays else ""
    return f"{found['largest']:.1g} apart{still}"


def rates(row: dict[str, Any]) -> list[str]:  # Any: JSON
    """Return, for each scheduler, the rates of the head and of the first block, the last thawed."""
    cells = []
    for found in (value for value in row.values() if isinstance(value, dict)):
        if "raised" in found:
            cells.append("refused" if "not currently supported" in found["raised"] else "error")
            continue
        at = next(i for i, rate in enumerate(found["first_block"]) if rate is not None)
        cells.append(f"{found['first_block'][at] / found['head'][at]:.2g}")
    return [row["tool"], *cells]


def tables(rows: list[dict[str, Any]]) -> list[str]:  # Any: JSON
    """Return the tables in Markdown."""
    by: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by.setdefault(row["question"], []).append(row)
    frozen = [
        "| | moved in an epoch in which the backbone is frozen | its modules in train mode | "
        "features of an image apart, in two batches |",
        "|---|---|---:|---:|",
        *(while_frozen(row) for row in by["while frozen"]),
    ]
    documented, usual = by["resumed, trainer.ckpt_path"], by["resumed, fit(ckpt_path=)"]
    decays = ["| | parameters with another weight decay than given |", "|---|---:|"]
    for row in (*by["weight decay"], by["weight decay, no_decay"][-1]):
        how = ", with `no_decay`" if row["question"].endswith("no_decay") else ""
        other = len(row["with_another_decay"])
        decays.append(f"| {row['tool']}{how} | {other} of {row['parameters']} |")
    names = [name for name, value in by["schedulers"][0].items() if isinstance(value, dict)]
    ratios = [
        "| | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
        *("| " + " | ".join(rates(row)) + " |" for row in by["schedulers"]),
    ]
    parts = (frozen, resumed([*usual[:2], documented[2], usual[2]]), decays, ratios)
    return ["\n".join(lines) for lines in parts]


def main() -> None:
    print("\n\n".join(tables(json.loads(PATH.read_text(encoding="utf-8"))["rows"])))


if __name__ == "__main__":
    main()
