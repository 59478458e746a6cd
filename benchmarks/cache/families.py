"""One model of each family, cached at every boundary: are losses and weights those without a cache?

    python -m benchmarks.cache.families

Each boundary is trained for 20 steps twice, on images and on cached features, with the same random
state. Losses and final weights must have the same bits, or the cache must be refused with a reason.

After Ctrl-C, the same command continues where it stopped. After a change of the code, `--fresh`
starts again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.zoo.models import smallest_of_families
from benchmarks.zoo.sweep import RESULTS, Line, read, sweep

CODE = (
    "freezekit",
    "plugins/freezekit_strategies",
    "benchmarks/zoo",
    "benchmarks/cache/one_model.py",
)


@click.command(help=__doc__)
@click.option("--workers", default=2, show_default=True, help="Processes of one thread each.")
@click.option("--fresh", is_flag=True, help="Start again, whatever the file holds.")
@click.option("--summary-only", is_flag=True, help="Run nothing; summarise the file.")
@click.option(
    "-o", "--output", default=RESULTS / "cache-families.jsonl", type=click.Path(path_type=Path)
)
def main(workers: int, fresh: bool, summary_only: bool, output: Path) -> None:
    if not summary_only:
        models = smallest_of_families(read(RESULTS / "zoo-coverage.jsonl")[1])
        jobs = [asdict(model) for model in models]
        sweep("cache", jobs, output=output, workers=workers, fresh=fresh, code=CODE)
    click.echo(summary(read(output)[1]))


def summary(lines: list[Line]) -> str:
    """Return how many boundaries have the same bits, and what the others say.

    Example:
        >>> boundary = {"spec": "head-only", "result": "equal", "reason": ""}
        >>> summary([{"library": "timm", "name": "vgg11", "boundaries": [boundary]}])
        '1 models, 1 boundaries: equal 1'
    """
    found = [(line, boundary) for line in lines for boundary in line.get("boundaries", ())]
    counts = Counter(boundary["result"] for _, boundary in found)
    told = [
        f"{len(lines)} models, {len(found)} boundaries: "
        + ", ".join(f"{result} {count}" for result, count in counts.most_common())
    ]
    for line in lines:
        name = f"{line['library']}:{line['name']}"
        if "boundaries" not in line:
            told.append(f"{name} {line['status']}: {line['reason']}")
        told += [
            f"{name} {each['spec']} {each['result']}: {each['reason']}"
            for each in line.get("boundaries", ())
            if each["result"] != "equal"
        ]
    return "\n".join(told)


if __name__ == "__main__":
    main()
