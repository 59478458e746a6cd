"""One model of each family, cached at its boundaries: are losses and weights those without a cache?

    python -m benchmarks.cache.families

Each boundary is trained for 20 steps twice, on images and on cached features, with the same random
state. Losses and final weights must have the same bits, or the cache must be refused with a reason.
A model with more than six boundaries is asked for six: the first, the last, and others evenly
between. A model that takes longer than `--most-seconds` has some left.

After Ctrl-C, the same command continues where it stopped. After a change of the code, `--fresh`
starts again. The models are those of results/zoo-coverage.jsonl, the smallest first.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.cache.summary import summary
from benchmarks.lean.families import matches, smallest_first
from benchmarks.zoo.sweep import RESULTS, read, sweep

CODE = (
    "freezekit/cache",
    "freezekit/freezing",
    "freezekit/staging",
    "freezekit/model",
    "benchmarks/zoo/models.py",
    "benchmarks/cache/one_model.py",
)
"""What the results depend on; a change in any of it asks for `--fresh`."""

LIMIT_SECONDS = 1200.0


@click.command(help=__doc__)
@click.option("--only", default="*", metavar="PATTERN", help="Names that match, such as 'swin*'.")
@click.option("--workers", default=1, show_default=True, help="Processes of one thread each.")
@click.option(
    "--most-seconds", default=60.0, show_default=True, help="Of the CPU, for a model, about."
)
@click.option("--fresh", is_flag=True, help="Start again, whatever the file holds.")
@click.option("--summary-only", is_flag=True, help="Run nothing; summarise the file.")
@click.option(
    "-o", "--output", default=RESULTS / "cache-families.jsonl", type=click.Path(path_type=Path)
)
def main(
    only: str, workers: int, most_seconds: float, fresh: bool, summary_only: bool, output: Path
) -> None:
    if not summary_only:
        models = smallest_first(read(RESULTS / "zoo-coverage.jsonl")[1], only)
        if not models:
            sys.exit(f"no model matches {only!r}")
        jobs = [asdict(model) | {"most_seconds": most_seconds} for model in models]
        options = {"workers": workers, "fresh": fresh, "limit": LIMIT_SECONDS}
        sweep("cache", jobs, output=output, code=CODE, **options)
    lines = [line for line in read(output)[1] if matches(line["library"], line["name"], only)]
    click.echo(summary(lines))


if __name__ == "__main__":
    main()
