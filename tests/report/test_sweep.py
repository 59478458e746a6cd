"""A sweep in the terminal, as Markdown, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from rich.console import Console

from freezekit.cli import main
from freezekit.errors import OutputError
from freezekit.report.formats import RESULT_FORMATS, SWEEP_FORMATS
from freezekit.report.output import check_replaceable, write
from freezekit.report.sweep_csv import sweep_csv
from freezekit.report.sweep_table import print_sweep, sweep_markdown
from freezekit.results.store import load
from freezekit.sweep.store import from_json, load_sweep, to_json
from tests.report.example_sweep import example, facts, with_failures

if TYPE_CHECKING:
    from pathlib import Path

    from freezekit.sweep.records import Sweep

TABLE = """
timm:efficientnet_lite0 on photos: 188 + 120 images in 14 classes, 5 epochs, 3
seeds, batch 32, adamw, cpu

  learn.  accuracy           difference         time, mem., GFLOP,  verdict
    rate  %                  to full            ratio ratio  ratio
-------------------------------------------------------------------------------
full
  0.0003  82.8 [75.6, 87.8]  -                      1     1      1  baseline
head-only
   0.003  83.6 [76.3, 88.8]  +0.8 [-3.2, +4.8]  0.062  0.13  0.043  on front
first-n-stages:n=2
   0.001  85.0 [78.1, 89.6]  +2.2 [-7.3, +11.6]  0.61  0.52   0.57  on front
""".lstrip()


def printed(sweep: Sweep, width: int = 80, *, explain: bool = False) -> str:
    out = io.StringIO()
    print_sweep(sweep, Console(file=out, width=width, no_color=True), explain=explain)
    return out.getvalue()


def freezekit(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_the_table() -> None:
    assert printed(example()).startswith(TABLE)
    chosen = "- recommended: discriminative-lr:decay=0.8, the best; no cheaper one is shown to"
    assert chosen in printed(example())


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for sweep in (example(), with_failures()):
        assert max(map(len, printed(sweep, width).splitlines())) <= max(width, 66)


def test_each_row_says_what_became_of_it() -> None:
    text = printed(with_failures())
    for said in (
        "discriminative-lr:decay=0.8: stopped at 2",
        "fraction:p=0.5: diverged\n",
        "fraction:p=0.6: out of memory\n",
        "fraction:p=0.7: error\n",
        "fraction:p=0.8: not done\n",
        "- not complete: 15 of 27 trials ended; the same command with --resume",
        "- fraction:p=0.5: diverged: the loss was NaN at step 12",
        "- pilots were left out for the budget",
    ):
        assert said in text
    assert "- stopped early, as hopeless: discriminative-lr:decay=0.8" in printed(
        with_failures(), explain=True
    )


def test_a_row_that_the_budget_cut_is_not_called_hopeless() -> None:
    rows = list(example().rows[:2])
    cut = replace(rows[0].trials[2], status="stopped", epochs=rows[0].trials[2].epochs[:2])
    rows[0] = replace(rows[0], status="stopped", trials=(*rows[0].trials[:2], cut))
    text = printed(example(rows=tuple(rows), complete=False), explain=True)
    assert "stopped early, as hopeless" not in text
    assert "- not complete: 5 of 6 trials ended" in text


def test_a_metric_that_failed_is_said_before_all_else() -> None:
    broken = "the metric 'f1' of 'own.py' returned nan; it has no value then"
    rows = tuple(
        replace(one, trials=tuple(replace(trial, notes=(broken,)) for trial in one.trials))
        for one in example().rows[:2]
    )
    sweep = example(rows=rows, settings=replace(example().settings, metric="f1"))
    text = printed(sweep, 120)
    assert f"- no candidate has a value of 'f1': {broken}\n" in text
    assert "0.0003  -  " in text


def test_one_seed_has_no_intervals() -> None:
    text = printed(example(seeds=1))
    assert "[" not in text
    assert "recommended" not in text
    assert "with one seed" in text


def test_what_the_data_says_is_a_warning() -> None:
    data = facts(notes=("validated on 'test'",), skipped=("a/1.png", "a/2.png"))
    text = printed(example(data=data))
    assert "- 2 images that cannot be read were left out: 'a/1.png', 'a/2.png'\n" in text
    assert "- validated on 'test'\n" in text


def test_markdown_has_all_sentences() -> None:
    text = sweep_markdown(example())
    assert (
        "| candidate | learning rate | accuracy, % [95% interval] | difference to full, poi" in text
    )
    assert all(sentence in text for sentence in example().sentences)


def test_csv_has_the_same_columns_for_every_sweep() -> None:
    rows = list(csv.DictReader(io.StringIO(sweep_csv(example()))))
    assert len(rows) == 5
    assert rows[1]["metric_to_full_low"].startswith("-0.032")
    assert (rows[3]["recommended"], rows[0]["metric_to_full"]) == ("true", "")
    failed = sweep_csv(with_failures()).splitlines()
    assert failed[0] == sweep_csv(example(seeds=1)).splitlines()[0]
    assert failed[-3].endswith(",the process was ended by the kernel")


def test_json_reads_back() -> None:
    for sweep in (example(), with_failures()):
        assert from_json(to_json(sweep)) == sweep


def test_each_format_is_recognised_and_none_of_another_command(tmp_path: Path) -> None:
    names = [tmp_path / f"sweep{form.extension}" for form in SWEEP_FORMATS]
    write(example(), SWEEP_FORMATS, *names)
    for name in names:
        check_replaceable(name, SWEEP_FORMATS)
        with pytest.raises(OutputError, match="that this command of freezekit wrote"):
            check_replaceable(name, RESULT_FORMATS)


def test_report_reads_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    path.write_text(to_json(example()))
    done = freezekit("report", path)
    assert (done.exit_code, "recommended: discriminative-lr" in done.output) == (0, True)
    assert (
        freezekit("report", path, "-o", tmp_path / "a.md", "-o", tmp_path / "b.json").output == ""
    )
    assert (tmp_path / "a.md").read_text() == sweep_markdown(example())
    assert load_sweep(tmp_path / "b.json") == example()
    assert "What the columns mean" in freezekit("report", path, "--explain").output


def test_sweeps_and_results_are_reported_apart(tmp_path: Path) -> None:
    path, other = tmp_path / "sweep.json", tmp_path / "other.json"
    path.write_text(to_json(example()))
    other.write_text(to_json(example()))
    done = freezekit("report", path, other, "-o", tmp_path / "a.md")
    assert done.exit_code == 2
    assert "of which one is reported at a time" in done.output
    assert not (tmp_path / "a.md").exists()
    assert freezekit("report", path, other).exit_code == 0
    other.write_text("{}")
    assert "and apart from results of `freezekit bench`" in freezekit("report", path, other).output
    assert "expected .json, .csv, .md or .html" in freezekit("report", path, "-o", "a.txt").output


def test_readers_of_results_refuse_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "sweep.json"
    path.write_text(to_json(example()))
    with pytest.raises(OutputError, match="it is what `freezekit sweep` wrote; expected a file of"):
        load(path)
