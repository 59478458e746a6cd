"""Every model of timm and torchvision: `python -m benchmarks.zoo` does it all.

Stages and checks every model (coverage), trains one of every family with every strategy (verify),
asks other tools the same questions (peers), and writes results/zoo.md. What is done is kept: after
Ctrl-C the same command goes on. Some minutes on two cores.

`diff`, which runs only if it is asked for, compares the stages of every model with the committed
ones in results/zoo-stages.jsonl, prints what moved, and exits with 1 if anything did. Run it after
a change of the staging rules; `--accept` then rewrites the file.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.zoo.diff import diff
from benchmarks.zoo.models import LIBRARIES, smallest_of_families, zoo
from benchmarks.zoo.peers import PEERS
from benchmarks.zoo.pool import ROOT
from benchmarks.zoo.sweep import RESULTS, read, sweep
from benchmarks.zoo.table import write_table
from benchmarks.zoo.verify_families import STRATEGIES

PARTS = ("coverage", "verify", "peers", "table")


@click.command(help=__doc__)
@click.argument("parts", nargs=-1, type=click.Choice((*PARTS, "diff")))
@click.option("--only", default="*", metavar="PATTERN", help="Names that match, such as 'swin*'.")
@click.option("--library", type=click.Choice(LIBRARIES), multiple=True, default=LIBRARIES)
@click.option("--workers", default=2, show_default=True, help="Processes of one thread each.")
@click.option("--fresh", is_flag=True, help="Begin anew, whatever the files hold.")
@click.option("-o", "--output", default=RESULTS, type=click.Path(path_type=Path), help="Folder.")
@click.option("--accept", is_flag=True, help="With `diff`: commit the stages as they are now.")
@click.option(
    "--peers-python",
    default=ROOT / "build" / "peers" / "bin" / "python",
    type=click.Path(path_type=Path),
    help="A Python that has the `peers` group too; `make zoo` makes it.",
)
def main(
    parts: tuple[str, ...],
    only: str,
    library: tuple[str, ...],
    workers: int,
    fresh: bool,
    output: Path,
    accept: bool,
    peers_python: Path,
) -> None:
    wanted = parts or PARTS
    options: dict[str, Any] = {"workers": workers, "fresh": fresh}
    if accept and "diff" not in wanted:
        raise click.UsageError("--accept is of use with `diff` only")
    if "diff" in wanted:
        if len(wanted) > 1:
            raise click.UsageError("`diff` runs by itself: leave out the other parts")
        whole = only == "*" and set(library) == set(LIBRARIES)
        sys.exit(diff(zoo(library, only), whole=whole, accept=accept, **options))
    coverage = output / "zoo-coverage.jsonl"
    if "coverage" in wanted:
        jobs = [asdict(model) for model in zoo(library, only)]
        sweep("coverage", jobs, output=coverage, **options)
    names = {(model.library, model.name) for model in zoo(library, only)}
    small = [m for m in smallest_of_families(read(coverage)[1]) if (m.library, m.name) in names]
    if {"verify", "peers"} & set(wanted) and not small:
        sys.exit(f"no model to train: {coverage} has none that match; run the coverage part first")
    if "verify" in wanted:
        jobs = [asdict(m) | {"strategy": s} for m in small for s in STRATEGIES]
        sweep("verify", jobs, output=output / "zoo-verify.jsonl", limit=1200, **options)
    if "peers" in wanted:
        if not peers_python.exists():
            sys.exit(f"there is no {peers_python}; `make zoo` makes it, or give --peers-python")
        jobs = [asdict(m) | {"peer": peer} for m in small for peer in PEERS]
        options["python"] = str(peers_python)
        sweep("peers", jobs, output=output / "zoo-peers.jsonl", limit=1200, **options)
    if "table" in wanted:
        write_table(output)


if __name__ == "__main__":
    main()
