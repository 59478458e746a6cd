"""The page as text: escaped, small, self-contained, the same each time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from msgspec.structs import replace

from freezekit.report.formats import RESULT_FORMATS
from freezekit.report.html.page import render_html
from freezekit.report.output import write
from freezekit.results.locking import locked
from freezekit.results.records import Result, Row, Workload
from freezekit.results.store import from_json, load, to_json
from tests.sampled import sampled

MakeResult = Callable[..., Result]
ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"
VOID = {"meta", "input", "br", "img", "rect", "circle", "path"}


class Page(HTMLParser):
    """The elements of a page, and the text in each kind."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append((tag, known))
        if known.get("id"):
            self.ids.append(str(known["id"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def embedded(text: str) -> str:
    (found,) = re.findall(r'<script type="application/json" id="result">(.*?)</script>', text)
    return str(found)


def test_the_page_has_all_sections_and_is_well_formed(make_whole: MakeResult) -> None:
    page = Page(render_html([make_whole()]))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    titles = [text for tag in ("h1", "h2") for text in page.texts[tag] if text.strip()]
    assert titles == [
        "torchvision:resnet18",
        "Table",
        "Notes",
        "Memory against step time",
        "Memory at the peak",
        "Step time against full",
        "Freeze map",
        "Steps in the order of the run",
        "Environment",
    ]
    charts = [known for _, known in page.tags if known.get("class") == "chart"]
    images = [known for _, known in page.tags if known.get("role") == "img"]
    assert len(charts) == len(images) == 5
    assert all(len(known["aria-label"] or "") > 40 for known in images)
    links = [known["href"] for tag, known in page.tags if tag == "a"]
    assert {link.removeprefix("#") for link in links if link} <= set(page.ids)
    assert any("noise floor" in text for text in page.texts["li"])


def test_nothing_is_fetched(make_whole: MakeResult) -> None:
    text = render_html([make_whole()])
    page = Page(text)
    for tag, known in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        assert "src" not in known, (tag, known)
        assert (known.get("href") or "#").startswith("#"), (tag, known)
    assert not re.search(r"@import|url\((?!#)", "".join(page.texts["style"]))
    (policy,) = [
        str(known["content"])
        for tag, known in page.tags
        if tag == "meta" and known.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    assert "connect-src" not in policy, "left out, it is as the default: none"
    specs = re.findall(r'class="spec"[^>]*>(.*?)</script>', text)
    assert specs
    assert not any("http" in spec for spec in specs)


def test_what_comes_from_elsewhere_is_text_and_no_more(make_whole: MakeResult, nasty: Row) -> None:
    evil = nasty.error
    assert evil is not None
    result = make_whole(
        rows=(*make_whole().rows, nasty),
        workload=Workload(f"models.py:{evil}"),
        env={"cpu": evil, "command": evil, "<b>key</b>": evil},
        notes=(evil,),
    )
    text = render_html([result])
    page = Page(text)
    assert page.open == []
    plain = Page(render_html([make_whole()]))
    scripts = [tag for tag, _ in page.tags if tag == "script"]
    assert len(scripts) == len([tag for tag, _ in plain.tags if tag == "script"])
    assert "img" not in [tag for tag, _ in page.tags]
    assert "b" not in [tag for tag, _ in page.tags]
    assert "{{ 7*7 }}" in text
    assert "49" not in "".join(page.texts["title"])
    assert from_json(embedded(text)) == (result,)


def test_the_embedded_result_is_the_result(make_whole: MakeResult) -> None:
    one, other = make_whole(), make_whole(workload=Workload("timm:vit"), complete=False)
    assert from_json(embedded(render_html([one]))) == (one,)
    assert from_json(embedded(render_html([one, other]))) == (one, other)


def test_the_same_results_make_the_same_text(make_whole: MakeResult) -> None:
    first = render_html([make_whole()])
    assert render_html([make_whole()]) == first


def test_several_results_have_a_section_each_and_contents(make_whole: MakeResult) -> None:
    other = make_whole(workload=Workload("timm:vit_tiny_patch16_224"))
    text = render_html([make_whole(), other])
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.texts["h1"] == ["2 results"]
    assert page.texts["h2"] == ["torchvision:resnet18", "timm:vit_tiny_patch16_224"]
    assert '<a href="#r2">timm:vit_tiny_patch16_224' in text
    assert text.count('id="runtime"') == 1


@pytest.mark.exhaustive
def test_an_ordinary_report_is_small(make_whole: MakeResult) -> None:
    stored = [
        result for path in sorted(RESULTS.glob("readme-bench*.json")) for result in load(path)
    ]
    stored += load(RESULTS / "lean-steps-resnet50.json")
    for results in ([make_whole()], stored):
        size = len(render_html(results).encode())
        assert size < 1_500_000, f"{size:,} bytes"
    runtime = re.findall(r'<script id="runtime">(.*?)</script>', render_html(stored), re.DOTALL)
    assert len(runtime) == 1


def test_a_result_without_times_says_so_and_has_its_other_charts(make_whole: MakeResult) -> None:
    rows = tuple(replace(row, time=None) for row in make_whole().rows)
    text = render_html([replace(make_whole(), rows=rows, raw=None, control=None)])
    assert "No chart: the result has no step times." in text
    assert "No chart: the result has no ratios of step times." in text
    assert "No chart: no steps were timed." in text
    assert text.count('class="chart"') == 2


def test_a_result_of_failed_rows_alone_has_no_chart_and_no_runtime(make_whole: MakeResult) -> None:
    rows = (Row("full", status="oom", error="killed"), Row("head-only", status="error", error="x"))
    text = render_html([make_whole(rows=rows, control=None)])
    assert 'class="chart"' not in text
    assert '<script id="runtime">' not in text
    assert "full: out of memory: killed" in text
    assert text.count("No chart: ") == 5
    assert Page(render_html([make_whole(rows=())])).open == []


def test_a_file_of_an_older_version_has_no_map_and_says_why() -> None:
    (result,) = load(RESULTS / "readme-bench-older.json")
    assert all(row.stages == () for row in result.rows)
    text = render_html([result])
    assert "No chart: the file does not tell stages." in text
    assert "does not tell what of gradients and saved activations is alive at the peak" in text


def test_the_command_and_the_environment_are_there(make_whole: MakeResult) -> None:
    env = {"command": "freezekit bench -s 'a & b'", "torch": "2.15.0", "affinity": [0, 1]}
    text = render_html([make_whole(env=env)])
    assert "<code>freezekit bench -s &#39;a &amp; b&#39;</code>" in text
    assert "<dt>affinity</dt><dd>0, 1</dd>" in text
    assert "<dt>optimizer</dt><dd>sgd</dd>" in text
    assert "The file does not tell it." in render_html([make_whole(env={})])


def test_the_table_sorts_by_bytes_and_seconds(make_whole: MakeResult) -> None:
    text = render_html([make_whole()])
    assert f'data-v="{80 * 2**20}">80.0</td>' in text
    assert 'data-v="0.0612">61.2</td>' in text
    page = Page(text)
    heads = [known for tag, known in page.tags if tag == "button" and "data-kind" in known]
    assert {known["data-kind"] for known in heads} == {"number", "text"}
    assert sum(known.get("aria-sort") == "ascending" for tag, known in page.tags) == 1


BLOCKED = """
    import sys
    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {names!r}:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
    sys.meta_path.insert(0, Refuse())
    import freezekit.cli
    sys.argv = ["freezekit", *{args!r}]
    freezekit.cli.main()
"""


def run_without(names: set[str], *args: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(BLOCKED).format(names=names, args=args)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", sampled(["altair", "jinja2", "vl_convert"], every=3))
def test_a_missing_extra_is_told_before_anything_is_measured(tmp_path: Path, name: str) -> None:
    stored = str(RESULTS / "readme-bench.json")
    page = str(tmp_path / "r.html")
    for args in (("bench", "-o", page), ("report", stored, "-o", page)):
        done = run_without({name}, *args)
        assert done.returncode == 2, done.stderr
        assert f".html needs {name}, not installed here" in done.stderr
        assert "pip install 'freezekit[report]'" in done.stderr
        assert "Traceback" not in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_where_the_page_cannot_be_made_no_other_file_is_written(tmp_path: Path) -> None:
    stored = str(RESULTS / "readme-bench.json")
    out = tmp_path / "out"
    out.mkdir()
    args = ("report", stored, "-o", str(out / "r.md"), "-o", str(out / "r.html"))
    assert "needs jinja2, not installed" in run_without({"jinja2"}, *args).stderr
    assert list(out.iterdir()) == []
    places = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    (tmp_path / "jinja2.py").write_text("raise ImportError('half installed')")
    done = subprocess.run(
        [sys.executable, "-m", "freezekit", *args],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": places},
    )  # fmt: skip
    assert done.returncode == 2
    assert "which is installed but broken (ImportError: half installed)" in done.stderr
    assert list(out.iterdir()) == []


def test_a_file_that_a_run_is_writing_is_not_reported_into(tmp_path: Path) -> None:
    path = tmp_path / "r.md"
    with locked([str(path)]):
        done = run_without(set(), "report", str(RESULTS / "readme-bench.json"), "-o", str(path))
    assert done.returncode == 2
    assert f"another run is writing {str(path)!r}" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_broken_extra_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "altair.py").write_text("raise ImportError('libshapes.so: no such file')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "freezekit", "bench", "-o", str(tmp_path / "r.html")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 2, done.stderr
    assert r".html needs altair, which is installed but broken" in done.stderr
    assert "(ImportError: libshapes.so: no such file); install it anew" in done.stderr
    assert "counting memory" not in done.stderr


def test_the_report_command_needs_no_torch(make_whole: MakeResult, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    other = make_whole(workload=Workload("timm:vit"))
    first.write_text(to_json([make_whole()]))
    second.write_text(to_json([other]))
    outputs = [tmp_path / name for name in ("r.html", "r.md", "r.csv", "r.json")]
    args = [arg for path in outputs for arg in ("-o", str(path))]
    done = run_without({"torch", "timm", "torchvision"}, "report", str(first), str(second), *args)
    assert done.returncode == 0, done.stderr
    assert load(outputs[3]) == (make_whole(), other)
    assert "timm:vit" in outputs[0].read_text()
    assert "timm:vit" in outputs[1].read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("no.json", "-o", "r.html"), "cannot read 'no.json'"),
        (("r.txt", "-o", "r.pdf"), "expected .json, .csv, .md, .html"),
        (("-o", "r.html"), "Missing argument"),
        (("no.json",), "cannot read 'no.json': no such file"),
    ],
)
def test_bad_usage_of_the_report_command(
    tmp_path: Path, args: tuple[str, ...], message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "freezekit", "report", *args],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_report_of_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"schema_version": 1, "freezekit"')
    done = subprocess.run(
        [sys.executable, "-m", "freezekit", "report", "half.json", "-o", "r.html"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "'half.json' is cut off" in done.stderr
    assert not (tmp_path / "r.html").exists()


@pytest.mark.exhaustive
def test_a_whole_file_is_written_whatever_the_locale(
    make_whole: MakeResult, tmp_path: Path, nasty: Row
) -> None:
    write([make_whole(rows=(*make_whole().rows, nasty))], RESULT_FORMATS, tmp_path / "r.html")
    stored = tmp_path / "r.json"
    write([make_whole(rows=(*make_whole().rows, nasty))], RESULT_FORMATS, stored)
    done = subprocess.run(
        [sys.executable, "-m", "freezekit", "report", str(stored), "-o", str(tmp_path / "2.html")],
        check=False,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0
    assert (tmp_path / "2.html").read_bytes() == (tmp_path / "r.html").read_bytes()
    assert json.loads(embedded((tmp_path / "r.html").read_text(encoding="utf-8")))
