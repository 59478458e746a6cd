"""What ways to choose learning rates reach: the same sweep, by pilots that choose in other ways.

    python -m benchmarks.sweep.rates 'half of the epochs=old.json' 'all epochs=new.json'
    python -m benchmarks.sweep.rates --page

Each file is a sweep of the same candidates, images and seeds, as `benchmarks.sweep.accuracy` makes
it. Rate and accuracy of each candidate go to results/sweep-rates.json; the other files need not be
kept. The page has the candidates whose rate depends on the way.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import click

from benchmarks.facts import write_whole
from freezekit.sweep.store import load_sweep

FILE = Path(__file__).parents[1] / "results" / "sweep-rates.json"


@click.command(help=__doc__)
@click.argument("ways", nargs=-1, metavar="NAME=FILE...")
@click.option("--page", is_flag=True, help="Print the table; read no sweep.")
def main(ways: tuple[str, ...], page: bool) -> None:
    if page:
        click.echo(_table(json.loads(FILE.read_text())))
        return
    found = {}
    for way in ways:
        name, _, file = way.partition("=")
        sweep = load_sweep(file)
        rows = [row for row in sweep.rows if row.metric]
        found[name] = {
            "images": sweep.data.digest,
            "rates": {row.label: row.lr for row in rows},
            "accuracy": {row.label: row.metric.value for row in rows if row.metric},
        }
    if len({way["images"] for way in found.values()}) != 1:
        raise click.UsageError("name sweeps of the same images")
    write_whole(FILE, found)


def _table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    ways = list(found)
    first = found[ways[0]]
    labels = [
        label
        for label in first["rates"]
        if len({found[way]["rates"].get(label) for way in ways}) > 1
    ]
    lines = [f"| | {' | '.join(ways)} |", f"|---|{'---|' * len(ways)}"]
    for label in labels:
        cells = [
            f"{found[way]['rates'][label]:g}: {100 * found[way]['accuracy'][label]:.1f}"
            for way in ways
        ]
        lines.append(f"| `{label}` | {' | '.join(cells)} |")
    means = [f"{100 * fmean(found[way]['accuracy'].values()):.1f}" for way in ways]
    lines.append(f"| mean of all {len(first['rates'])} | {' | '.join(means)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
