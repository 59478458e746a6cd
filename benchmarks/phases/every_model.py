"""Every model of timm and torchvision from its head to its stem, each phase checked, on `meta`.

    python -m benchmarks.phases.every_model

Each model goes through all phases of `gradual-unfreeze` twice: by `change_` with one optimizer, and
as a training that follows the schedule. In each phase, flags, modes after `train()`, the groups of
the optimizer and their rates must be those of the phase. No output of a frozen module may require
grad.

After Ctrl-C, the same command continues where it stopped. After a change of the code, `--fresh`
starts again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.zoo.models import smallest_of_families, zoo
from benchmarks.zoo.sweep import RESULTS, Line, read, sweep

CODE = (
    "freezekit",
    "plugins/freezekit_strategies",
    "benchmarks/zoo",
    "benchmarks/phases/one_model.py",
)


@click.command(help=__doc__)
@click.option("--only", default="*", metavar="PATTERN", help="Names that match, such as 'swin*'.")
@click.option("--workers", default=1, show_default=True, help="Processes of one thread each.")
@click.option("--fresh", is_flag=True, help="Start again, whatever the file holds.")
@click.option("--summary-only", is_flag=True, help="Run nothing; summarise the file.")
@click.option(
    "-o", "--output", default=RESULTS / "phases-models.jsonl", type=click.Path(path_type=Path)
)
def main(only: str, workers: int, fresh: bool, summary_only: bool, output: Path) -> None:
    if not summary_only:
        first = set(smallest_of_families(read(RESULTS / "zoo-coverage.jsonl")[1]))
        models = sorted(zoo(only=only), key=lambda model: model not in first)  # stable
        jobs = [asdict(model) for model in models]
        sweep("phases", jobs, output=output, workers=workers, fresh=fresh, code=CODE)
    click.echo(summary(read(output)[1]))


def summary(lines: list[Line]) -> str:
    """Return how many models and phases are clean, and which are not.

    Example:
        >>> line = {"library": "timm", "name": "vgg11", "status": "done", "phases": 7}
        >>> summary([line | {"fault_count": 0, "faults": []}])
        '1 models: done 1; 7 phases in 1 models clean, 0 models with faults'
    """
    statuses = Counter(line["status"] for line in lines)
    done = [line for line in lines if line["status"] == "done"]
    clean = [line for line in done if not line["fault_count"]]
    told = [
        f"{len(lines)} models: {', '.join(f'{s} {n}' for s, n in sorted(statuses.items()))}; "
        f"{sum(line['phases'] for line in clean)} phases in {len(clean)} models clean, "
        f"{len(done) - len(clean)} models with faults"
    ]
    for line in lines:
        name = f"{line['library']}:{line['name']}"
        if line["status"] != "done":
            told.append(f"{name} {line['status']}: {line['reason']}")
        told += [f"{name} {fault}" for fault in line.get("faults", ())]
    return "\n".join(told)


if __name__ == "__main__":
    main()
