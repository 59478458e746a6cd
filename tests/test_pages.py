"""What the pages say, tried: the code of tutorial and guides, all commands, tables, links."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from rich.console import Console

import freezekit
from freezekit import testing
from freezekit.cli import main
from freezekit.plugins.registering import default_registry
from freezekit.report.table import print_result
from freezekit.results.store import load

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GUIDES = DOCS / "guides"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(
        path
        for folder in ("docs", "plugins", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.md"))
    ),
]

QUICK = {"data", "fit", "my-model", "schedules", "strategies", "train", "wrong-order"}
"""Pages whose code takes seconds. That of all others needs more, or the package of a trainer."""

TRIED_ELSEWHERE = {"extract": "tests/cli/test_extract.py writes the files that its code reads"}

WARNINGS = {  # of what the code is about
    "cache": ["ignore::freezekit.FreezekitWarning"],
    "lightning": [
        "ignore:Found .* in eval mode",
        "ignore:The 'train_dataloader' does not have many workers",
        "ignore:`isinstance\\(treespec",
        "ignore:the plan now trains a part whose features were cached",
    ],
}


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the fenced blocks of a page: language and text."""
    return re.findall(r"^```([\w{}-]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def after_schedules(names: dict[str, Any], printed: str) -> None:
    assert "8 step(s), 2 of 2 epoch(s), 1 change(s) of plan" in printed
    assert names["checkpoint"].keys() == {"model", "optimizer", "rates", "run"}


def after_cache(names: dict[str, Any], printed: str) -> None:
    assert repr(names["cached"]) == "CachedDataset(images again)"
    assert "16 samples, features of avgpool, 2 KiB each, 32 KiB in all" in printed


def after_lightning(names: dict[str, Any], printed: str) -> None:
    assert "8 step(s), 2 of 2 epoch(s), 1 change(s) of plan" in printed
    assert names["callback"].run.progress.step == 8


AFTERWARDS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "schedules": after_schedules,
    "cache": after_cache,
    "lightning": after_lightning,
}


def with_code() -> list[Any]:
    """Return tutorial and guides, with what they need to run."""
    found = []
    for path in (DOCS / "tutorial.md", *sorted(GUIDES.glob("*.md"))):
        name = path.stem
        marks = [pytest.mark.filterwarnings(text) for text in WARNINGS.get(name, [])]
        if name not in QUICK:
            marks.append(pytest.mark.slow)
        if name not in TRIED_ELSEWHERE and "```python\n" in path.read_text():
            found.append(pytest.param(path, marks=marks, id=name))
    return found


@pytest.mark.parametrize("page", with_code())
def test_the_code_of_a_page_runs_and_prints_what_it_says(
    page: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The blocks run one after the other in one namespace.

    A block `text` is what the block before it prints, or the end of that.
    """
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": page.stem}
    printed, last = "", None
    for language, text in blocks(page.read_text()):
        if language == "python":
            exec(text.replace("pretrained=True", "pretrained=False"), names)
            last = capsys.readouterr().out
            printed += last
        elif language == "text":
            assert last is not None
            assert last.endswith(text)
    AFTERWARDS.get(page.stem, lambda *_: None)(names, printed)


def commands() -> list[str]:
    """Return each line of a block without a language that calls freezekit."""
    lines = [
        line.removeprefix("$ ").split("  #")[0].strip()
        for page in PAGES
        for language, text in blocks(page.read_text())
        if not language
        for line in text.splitlines()
    ]
    return sorted({line for line in lines if line.startswith("freezekit ")})


def test_every_command_exists_with_its_options() -> None:
    assert len(commands()) > 40
    for line in commands():
        _, *args = shlex.split(line)
        found: click.Command = main
        while isinstance(found, click.Group) and args and args[0] in found.commands:
            found = found.commands[args.pop(0)]
        found.make_context(line, args, resilient_parsing=False).close()


@pytest.mark.parametrize("kind", ["strategies", "schedules"])
def test_the_table_lists_all_that_are_built_in(kind: str) -> None:
    offered = getattr(default_registry(), kind)
    built_in = {
        n: o.cls.summary for n, o in offered.items() if o.plugin.distribution == "freezekit"
    }
    table = re.findall(
        r"^\| `([\w-]+)` \| (.*) \|$", (GUIDES / f"{kind}.md").read_text(), re.MULTILINE
    )
    assert dict(table) == built_in
    assert len(table) == len(built_in)


def test_the_output_shown_is_that_of_the_result_file() -> None:
    (result,) = load(ROOT / "benchmarks" / "results" / "readme-bench.json")
    out = io.StringIO()
    print_result(result, Console(file=out, width=80))
    tutorial = blocks((DOCS / "tutorial.md").read_text())
    (shown,) = [text for _, text in tutorial if text.startswith("torchvision:resnet18")]
    assert shown == out.getvalue(), "whole, untrimmed"


def test_the_page_about_time_says_what_was_measured() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "timing-coverage.json").read_text())
    page = " ".join((DOCS / "explanation" / "time.md").read_text().split())
    right = {
        way: [found[way][spec]["verdict_right"] for spec in found["truth"]]
        for way in ("freezekit", "one after the other")
    }
    assert right == {"freezekit": [59, 39], "one after the other": [18, 32]}, "and so says the page"
    assert "was right in 59 of 60 runs, and the usual script with a Welch test in 18 of 60" in page
    assert "the difference in 39 of 60 runs, and in all others no difference" in page
    assert "the usual script was right in 32" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """`make docs` also checks the headings to which they lead."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def described(page: str) -> list[str]:
    text = (DOCS / "reference" / f"{page}.md").read_text()
    return re.findall(r"^\.\. (?:auto|py:)\w+:: ([\w.]+)", text, re.MULTILINE)


@pytest.mark.parametrize(("page", "module"), [("python", freezekit), ("testing", testing)])
def test_the_reference_has_each_public_name(page: str, module: Any) -> None:
    assert sorted(described(page)) == sorted(module.__all__)


def test_the_reference_has_what_guides_import_for_trainers() -> None:
    imported = {
        name.strip()
        for guide in GUIDES.glob("*.md")
        for names in re.findall(
            r"from freezekit\.integrations[\w.]* import (.+)", guide.read_text()
        )
        for name in names.strip("()").split(",")
    }
    assert imported <= {name.rpartition(".")[2] for name in described("integrations")}
