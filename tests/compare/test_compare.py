"""Two result files: paired by workload and row, compared exactly or by ratios of ratios."""

from __future__ import annotations

import io
import math
import os
import random
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from rich.console import Console

from freezekit.bench.statistics import estimate_change, summarise
from freezekit.cli import main
from freezekit.compare.differences import differences
from freezekit.compare.pairing import find_run, pair
from freezekit.compare.show import check_absolute, comparison_markdown, print_comparison
from freezekit.errors import CompareError
from freezekit.results.records import Flops, Memory, Raw, Result, Row, Workload
from freezekit.results.store import to_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORK = Workload("timm:resnet18", input_shape=(8, 3, 128, 128), image_size=128)
ENV = {"cpu": "a", "threads": 2, "torch": "2.15.0"}


def made(ratio: float = 0.5, peak: int = 700, seed: int = 0, **fields: object) -> Result:
    """Return a run of `full` and `head-only` with noisy raw steps of that ratio."""
    dice = random.Random(seed)
    names = {"full": 1.0, "head-only": ratio, "control": 1.0}
    steps = [
        [{n: [9.0, *(mean * dice.gauss(1, 0.01) for _ in "ab")] for n, mean in names.items()}]
        for _ in range(8)
    ]
    raw = Raw(order=[[[*names]] for _ in steps], steps=steps)
    summary = summarise(raw, ["full", "head-only"])
    rows = tuple(
        Row(name, memory=Memory(size, "measured", saved_activations_bytes=size), flops=Flops(3, 6))
        for name, size in (("full", 1000), ("head-only", peak))
    )
    rows = tuple(replace(row, time=summary.times[row.label]) for row in rows)
    whole = Result("0.1.0", WORK, ENV, rows, summary.control, raw, complete=True)
    return replace(whole, **fields)  # type: ignore[arg-type]


def text(old: Result, new: Result, width: int = 80, *, absolute: bool = False) -> str:
    console = Console(width=width, no_color=True, record=True, file=io.StringIO())
    print_comparison(pair([old], [new])[0], console, absolute=absolute)
    return console.export_text()


def flat(old: Result, new: Result) -> str:
    return " ".join(text(old, new).split())


def static(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Return the rows as --static leaves them."""
    return tuple(
        replace(row, time=None, memory=replace(row.memory, peak_method="predicted")) for row in rows
    )


def test_bytes_are_compared_exactly() -> None:
    full, head = differences(pair([made()], [made(peak=701)])[0])
    assert full.counts["peak_bytes"].change == 0.0
    assert head.counts["peak_bytes"].change == pytest.approx(1 / 700)
    shown = text(made(), made(peak=701))
    assert "head-only: peak 700 -> 701 bytes (+1), saved activations 700 -> 701 bytes (+1)" in shown
    assert "peak, saved activations, forward + backward: exactly equal" in text(made(), made())


def test_a_change_from_nothing_is_spelled_out() -> None:
    rows = tuple(
        replace(r, memory=replace(r.memory, saved_activations_bytes=0)) for r in made().rows
    )
    assert "head-only: saved activations 0 -> 700 bytes (+700)" in text(made(rows=rows), made())


def test_times_are_ratios_of_ratios_with_an_interval() -> None:
    _, head = differences(pair([made(0.5)], [made(0.6, seed=1)])[0])
    assert head.time is not None
    assert head.time.ci is not None
    assert head.time.ci[0] < 1.2 < head.time.ci[1]
    assert head.time.ci[1] - head.time.ci[0] < 0.1
    assert head.time.verdict == "slower"
    _, same = differences(pair([made(0.5)], [made(0.5, seed=1)])[0])
    assert same.time is not None
    assert same.time.verdict == "no difference shown"


def test_the_noise_is_told_as_ratios() -> None:
    said = flat(made(), made(0.6, seed=1))
    assert re.search(
        r"noise floor of both runs: no ratio between 0\.9\d\d and 1\.0\d\d is shown as a change",
        said,
    )


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    dice = random.Random(5)

    def run(blocks: int, spread: float) -> list[float]:
        return [math.log(0.5) + dice.gauss(0, spread) for _ in range(blocks)]

    hits = 0
    for _ in range(2000):
        found = estimate_change(run(8, 0.01), run(5, 0.03))
        assert found.ci is not None
        hits += found.ci[0] <= 1.0 <= found.ci[1]
    assert 0.935 <= hits / 2000 <= 0.965


def test_step_times_in_ms_need_one_environment() -> None:
    elsewhere = made(env={**ENV, "cpu": "b"})
    with pytest.raises(
        CompareError, match=r"environments differ: cpu \(a -> b\); leave --absolute"
    ):
        check_absolute(pair([made()], [elsewhere])[0])
    check_absolute(pair([made()], [made(seed=1)])[0])
    assert "cpu (a -> b)" in text(made(), elsewhere)


def test_another_environment_is_told_where_only_bytes_are_compared() -> None:
    elsewhere = made(rows=static(made().rows), env={**ENV, "torch": "2.16.0"})
    said = flat(made(rows=static(made().rows)), elsewhere)
    assert "the environments differ: torch (2.15.0 -> 2.16.0); bytes and FLOPs may change" in said


def test_other_protocols_are_not_compared_in_time() -> None:
    shown = text(made(), made(protocol="v2"))
    assert "times not compared: measured by protocol v1 and v2" in " ".join(shown.split())
    assert "ratio," not in shown


def test_peaks_of_two_methods_are_not_compared() -> None:
    rows = static(made().rows)
    found = differences(pair([made()], [made(rows=rows)])[0])
    assert found[0].counts["peak_bytes"].change is None
    said = flat(made(), made(rows=rows, raw=None))
    assert "saved activations, forward + backward: exactly equal" in said
    assert "peaks," not in said
    assert "peaks not compared: measured in the old run, predicted in the new one, and" in said
    assert "times not compared: the new run timed no step" in said
    said = flat(made(rows=(made().rows[0], rows[1])), made())
    assert "peak, saved activations, forward + backward: exactly equal" in said
    assert "peaks not compared of head-only: predicted in the old run, measured in the" in said
    said = flat(made(rows=rows), made(rows=rows))
    assert "not compared" not in said, "nothing is missing where both are --static"


def test_times_without_raw_steps_are_not_compared() -> None:
    assert "times not compared: the raw steps are missing" in flat(made(), made(raw=None))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (lambda full, head: (full, head), "step times may be of fewer blocks"),
        (lambda full, head: (full, replace(head, time=None)), "no step was timed for head-only"),
        (
            lambda full, head: static((full, head)),
            "no peak was measured for any row; no step was timed for any row",
        ),
        (
            lambda full, head: (replace(full, time=None), Row("head-only")),
            "nothing was measured for head-only; no step was timed for full",
        ),
    ],
)
def test_a_run_that_was_interrupted_says_so(
    rows: Callable[..., tuple[Row, ...]], said: str
) -> None:
    unfinished = made(rows=rows(*made().rows), complete=False)
    assert f"the old run did not finish: {said}" in flat(unfinished, made())
    assert f"the new run did not finish: {said}" in flat(made(), unfinished)
    shown = comparison_markdown(pair([made()], [unfinished])[0], names=("'a.json'", "'b.json'"))
    assert f"- **'b.json' did not finish: {said}" in shown
    assert "did not finish" not in flat(made(), made())


def test_rows_of_one_side_are_named() -> None:
    more = made(rows=(*made().rows, Row("bias-only", status="error", error="none")))
    assert "only in the new run: bias-only" in text(made(), more)
    assert "only in the old run: bias-only" in text(more, made())


def test_a_row_that_failed_says_so() -> None:
    rows = (made().rows[0], Row("head-only", status="oom", error="killed"))
    assert "head-only: failed in the new run: killed" in text(made(), made(rows=rows))


def test_after_resume_a_row_finds_the_run_that_has_it() -> None:
    full, head = made().rows
    olds = [made(rows=(full, head)), made(rows=(full, Row("bias-only")))]
    news = [made(rows=(full, head, Row("bias-only")))]
    found = pair(olds, news)
    assert [[new.label for _, new in p.rows] for p in found] == [
        ["full", "bias-only"],
        ["head-only"],
    ]
    assert not any(p.only_old or p.only_new for p in found)


def test_a_row_of_another_run_of_the_workload_is_not_missing() -> None:
    full, head = made().rows
    bias = Row("bias-only")
    whole, parts = [made(rows=(full, head, bias))], [made(), made(rows=(full, bias))]
    for olds, news in ((whole, parts), (parts, whole), (parts, parts)):
        assert not any(p.only_old or p.only_new for p in pair(olds, news))
    more = [*parts, made(rows=(full, Row("surgical")))]
    assert [p.only_new for p in pair(whole, more)] == [("surgical",), (), ()]
    assert next(p.only_old for p in pair(more, whole)) == ("surgical",)


def test_files_with_nothing_in_common_are_told_apart() -> None:
    other = made(workload=replace(WORK, batch_size=16))
    with pytest.raises(CompareError, match=r"timm:resnet18 was measured with another batch_size"):
        pair([made()], [other])
    with pytest.raises(CompareError, match="the old one holds timm:resnet18, the new one timm:b"):
        pair([made()], [made(workload=Workload("timm:b"))])


def test_a_baseline_is_looked_up_before_anything_is_measured() -> None:
    assert find_run([made()], Workload("timm:resnet18"), "old") == made()
    with pytest.raises(CompareError, match=r"no such run.*another batch_size \(8 -> 4\)$"):
        find_run([made()], Workload("timm:resnet18", batch_size=4), "old")
    with pytest.raises(CompareError, match=r"image_size \(128 -> 64\)$"):
        find_run([made()], Workload("timm:resnet18", image_size=64), "old")
    with pytest.raises(CompareError, match="old holds no run of 'timm:b', only of timm:resnet18"):
        find_run([made()], Workload("timm:b"), "old")
    runs = [made(workload=replace(WORK, seed=1, dtype="float64")), made()]
    with pytest.raises(CompareError, match="another seed"):  # of the run that is most alike
        find_run(runs, Workload("timm:resnet18", seed=2), "old")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal(width: int) -> None:
    lines = text(made(), made(0.6, 650, seed=1), width, absolute=True).splitlines()
    assert max(map(len, lines)) <= width


def test_markdown_has_the_same_figures() -> None:
    shown = comparison_markdown(pair([made()], [made(peak=350)])[0])
    assert r"| `head-only` | \<0.01 | -50% | \<0.01 | -50% | 0% | 1.00 [0.99, 1.01] |" in shown


WIDE = {"COLUMNS": "400"}  # a path as long as pytest's stays in one piece


def run(*args: str) -> subprocess.CompletedProcess[str]:
    done = CliRunner(env=WIDE).invoke(main, ["compare", *args])
    return subprocess.CompletedProcess(args, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    for name, result in (("old", made()), ("new", made(0.6, 690, seed=1))):
        (tmp_path / f"{name}.json").write_text(to_json([result]))
    return str(tmp_path / "old.json"), str(tmp_path / "new.json")


def test_the_command_prints_the_table_and_passes(files: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "freezekit", "compare", *files]
    wide = os.environ | WIDE
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=wide)
    assert run(*files).stdout == done.stdout, "the other tests run it in this process"
    assert (done.returncode, done.stderr) == (0, "")
    assert "1.2" in done.stdout
    assert "slower" in done.stdout


def test_the_command_names_the_file_of_an_interrupted_run(
    files: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "new.json").write_text(to_json([made(complete=False)]))
    said = " ".join(run(*files).stdout.split())
    assert f"{files[1]!r} did not finish:" in said
    assert f"{files[0]!r}" not in said
    assert f"**{files[1]!r} did not" in run(*files, "--markdown").stdout.replace("\\_", "_")


def test_the_command_names_what_is_in_one_file_alone(
    files: tuple[str, str], tmp_path: Path
) -> None:
    other = made(workload=replace(WORK, model="timm:b"))
    (tmp_path / "old.json").write_text(to_json([made(), other, other]))
    said = run(*files).stdout
    assert said.count("only in") == 1
    assert f"only in {files[0]!r}: timm:b, 8x3x128x128, float32" in said


def test_the_command_says_in_what_a_run_of_the_same_title_differs(
    files: tuple[str, str], tmp_path: Path
) -> None:
    other = made(workload=replace(WORK, seed=1))
    (tmp_path / "old.json").write_text(to_json([made(), other]))
    said = run(*files).stdout
    assert said.count("only in") == 1
    assert said.endswith("torch 2.15.0; seed 1, not 0\n")


def test_the_command_fails_by_a_gate(files: tuple[str, str]) -> None:
    done = run(*files, "--fail-if", "time.ratio > baseline * 1.05", "--fail-if", "peak_bytes > 1GB")
    assert done.returncode == 1
    assert "FAIL: time.ratio > baseline * 1.05: head-only: [0.5" in done.stderr
    assert "pass: peak_bytes > 1GB (1 of 1 rows)" in done.stdout
    done = run(*files, "--fail-if", "time.ratio > baseline * 1.2")
    assert done.returncode == 3
    assert "cannot say" in done.stderr
    done = run(*files, "--fail-if", "peak_bytes > stock")
    assert done.returncode == 2
    assert "'peak_bytes > stock' concerns no row: it compares lean rows" in done.stderr


def test_a_gate_names_the_model_where_there_are_several(tmp_path: Path) -> None:
    def said(*works: Workload) -> str:
        runs = [made(workload=work, peak=700 + i) for i, work in enumerate(works)]
        (tmp_path / "r.json").write_text(to_json(runs))
        done = run(*[str(tmp_path / "r.json")] * 2, "--fail-if", "peak_bytes == 700")
        assert done.returncode == 1
        return done.stderr

    gate = "FAIL: peak_bytes == 700: "
    assert said(WORK, WORK).startswith(f"{gate}head-only: ")
    assert said(replace(WORK, model="timm:a"), WORK).startswith(f"{gate}timm:a: head-only: ")
    title = "timm:resnet18, 2x3x64x64, float32, sgd, cpu, 2 threads, torch 2.15.0"
    smaller = replace(WORK, batch_size=2, image_size=64, input_shape=(2, 3, 64, 64))
    assert said(smaller, WORK).startswith(f"{gate}{title}: head-only: ")


def test_the_command_refuses(files: tuple[str, str], tmp_path: Path) -> None:
    done = run(*files, "--fail-if", "peak_byte > 1")
    assert done.returncode == 2
    assert "unknown figure 'peak_byte', did you mean 'peak_bytes'" in done.stderr
    assert "\n  peak_byte > 1\n  ^^^^^^^^^\n" in done.stderr
    done = run(*files, "--fail-if", "strategy == 'head_only' and peak_bytes > 1")
    assert done.returncode == 2
    assert "there are 'full', 'head-only'" in done.stderr
    for content, message in (('{"a"', "cut off"), ('[{"a": 1}]', "not a freezekit result")):
        (tmp_path / "bad.json").write_text(content)
        done = run(files[0], str(tmp_path / "bad.json"))
        assert done.returncode == 2
        assert message in done.stderr
    assert "cannot read" in run(files[0], "missing.json").stderr


def test_the_command_writes_markdown(files: tuple[str, str]) -> None:
    assert run(*files, "--markdown").stdout.startswith("**timm:resnet18, 8x3x128x128")
