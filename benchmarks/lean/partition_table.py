"""What compiled models save, lean and stock: eight models under every strategy of the page.

    python -m benchmarks.lean.partition_table            what is missing, then the table
    python -m benchmarks.lean.partition_table --page     the table of the page about lean

Each case is traced and partitioned, and no kernel is generated (`partition.py`). After Ctrl-C, the
same command continues. About 20 minutes on one core. What is not lean, or is not compiled, is read
from lean-memory.json, where it was counted with the same batch and size.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from benchmarks.lean.cases import COMPILED_SPECS, MODELS
from benchmarks.lean.records import OUT as EAGER
from benchmarks.lean.targets import SAVED
from benchmarks.zoo.sweep import RESULTS, Line, read, sweep

OUT = RESULTS / "lean-compiled.jsonl"
CLOSE = 1.02  # compiled lean as a multiple of eager lean
LIMIT_SECONDS = 900.0
CODE = (
    "freezekit/lean/compiled",
    *(f"benchmarks/lean/{name}.py" for name in ("cases", "partition", "sessions")),
)


@click.command(help=__doc__)
@click.option("--model", multiple=True, type=click.Choice(list(MODELS)), help="Only these.")
@click.option("--workers", default=1, show_default=True, help="Processes of one thread each.")
@click.option("--page", is_flag=True, help="Print the table of the page; count nothing.")
@click.option("--fresh", is_flag=True, help="Start again, whatever the file holds.")
@click.option("-o", "--output", default=OUT, type=click.Path(path_type=Path))
def main(model: tuple[str, ...], workers: int, page: bool, fresh: bool, output: Path) -> None:
    if not page:
        jobs = [
            {"library": MODELS[name].model.partition(":")[0], "name": name, "strategy": strategy}
            for name in model or MODELS
            for strategy in COMPILED_SPECS
        ]
        sweep(
            "lean-partition",
            jobs,
            output=output,
            workers=workers,
            fresh=fresh,
            limit=LIMIT_SECONDS,
            code=CODE,
        )
    lines = read(output)[1]
    click.echo(as_page(lines))
    if not page:
        click.echo("\n".join(["", *judged(lines)]))


def as_page(lines: list[Line]) -> str:
    """Return a table of shares of eager stock: stock compiled, lean compiled, lean eager."""
    eager = _eager()
    known = {(line["name"], line["strategy"]): line for line in lines}

    def cell(model: str, strategy: str) -> str:
        line = known.get((model, strategy), {})
        if "lean" not in line:
            return "-"
        row = eager[model, strategy]
        sizes = row["compiled"][SAVED], line["lean"][SAVED], row["lean"][SAVED]
        shares = [f"{100 * size / row['stock'][SAVED]:.1f}" for size in sizes]
        return f"{shares[0]}, **{shares[1]}**, {shares[2]}"

    head = ["", *(f"`{name}`" if " " not in name else name for name in COMPILED_SPECS)]
    table = [head, ["---", *["---:"] * len(COMPILED_SPECS)]]
    table += [[model, *(cell(model, name) for name in COMPILED_SPECS)] for model in MODELS]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def judged(lines: list[Line]) -> list[str]:
    """Return in words whether compiled lean meets its target, and what is computed again."""
    eager = _eager()
    counted = [line for line in lines if "lean" in line]
    missed = []
    for line in counted:
        ratio = line["lean"][SAVED] / eager[line["name"], line["strategy"]]["lean"][SAVED]
        if ratio > CLOSE:
            missed.append(f"  {line['name']} {line['strategy']}: {ratio:.3f} of eager lean")
    matrices = sum(line["lean"]["again_matrices"] for line in counted)
    return [
        f"{len(counted)} cases; more than {CLOSE} of eager lean: {len(missed)}",
        *missed,
        f"convolutions and matrix products computed again: {matrices}",
    ]


def _eager() -> dict[tuple[str, str], Line]:
    rows = json.loads(EAGER.read_text())["rows"]
    return {(row["model"], row["strategy"]): row for row in rows if "lean" in row}


if __name__ == "__main__":
    main()
