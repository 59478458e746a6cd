"""Lean compared with stock on the smallest model of each family.

    python -m benchmarks.lean.families

Two copies of each model are frozen alike, one of them lean, and trained side by side. Losses,
gradients and buffers must have the same bits. Neither what autograd saves nor the peak of a step
may be more. The tensors are real, on the CPU, in batches of two of the smallest images.

After Ctrl-C, the same command continues where it stopped. After a change of the code, `--fresh`
starts again. The models are those of results/zoo-coverage.jsonl, the smallest first. With
`--compiled`, both copies are compiled, their graphs run as they are, and memory is not counted.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

import click

from benchmarks.lean.summary import summary
from benchmarks.zoo.models import MOST_PARAMETERS, ZooModel, smallest_of_families
from benchmarks.zoo.sweep import RESULTS, Line, read, sweep

STRATEGIES = (
    "batch-norm",
    "surgical:stages=stem",
    "bias-only",
    "norm-only",
    "first-n-stages:n=2",
)
"""Strategies that train nearly everything to nearly nothing, with the stem trained or frozen."""

LIMIT_SECONDS = 1200.0


@click.command(help=__doc__)
@click.option("--only", default="*", metavar="PATTERN", help="Names that match, such as 'swin*'.")
@click.option("-s", "--strategy", multiple=True, default=STRATEGIES, type=click.Choice(STRATEGIES))
@click.option("--workers", default=1, show_default=True, help="Processes of one thread each.")
@click.option("--fresh", is_flag=True, help="Start again, whatever the file holds.")
@click.option("--compiled", is_flag=True, help="Compile both copies: compare_compiled.py.")
@click.option("--summary-only", is_flag=True, help="Run nothing; summarise the file.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="By default, in results/.")
def main(
    only: str,
    strategy: tuple[str, ...],
    workers: int,
    fresh: bool,
    compiled: bool,
    summary_only: bool,
    output: Path | None,
) -> None:
    task = "lean-compiled" if compiled else "lean"
    output = output or RESULTS / (
        "lean-compiled-families.jsonl" if compiled else "lean-families.jsonl"
    )
    if not summary_only:
        models = smallest_first(read(RESULTS / "zoo-coverage.jsonl")[1], only)
        if not models:
            sys.exit(f"no model matches {only!r}")
        jobs = [asdict(m) | {"strategy": s} for m in models for s in strategy]
        sweep(task, jobs, output=output, workers=workers, fresh=fresh, limit=LIMIT_SECONDS)
    lines = [line for line in read(output)[1] if matches(line["library"], line["name"], only)]
    click.echo(summary(lines))


def smallest_first(coverage: list[Line], only: str) -> list[ZooModel]:
    """Return the smallest model of each family that can be trained, in order of parameters.

    Args:
        coverage: Lines of zoo-coverage.jsonl.
        only: A glob pattern of names.

    Example:
        >>> line = {"library": "timm", "family": "vgg", "name": "vgg11", "parameters": 9}
        >>> smaller = line | {"family": "vit", "name": "vit_tiny", "parameters": 8}
        >>> [model.name for model in smallest_first([line, smaller], "*")]
        ['vit_tiny', 'vgg11']
    """
    count = {(line["library"], line["name"]): line.get("parameters", 0) for line in coverage}
    found = [
        (count[model.library, model.name], model)
        for model in smallest_of_families(coverage)
        if matches(model.library, model.name, only)
    ]
    found.sort(key=lambda pair: (pair[0], pair[1].text))
    return [model for parameters, model in found if parameters <= MOST_PARAMETERS]


def matches(library: str, name: str, only: str) -> bool:
    """Tell whether "name" or "library:name" matches a glob pattern.

    Example:
        >>> matches("timm", "vgg11", "timm:vgg*"), matches("timm", "vgg11", "resnet*")
        (True, False)
    """
    return fnmatch(name, only) or fnmatch(f"{library}:{name}", only)


if __name__ == "__main__":
    main()
