"""`freezekit plugins` and `freezekit strategies`: what they print, and what they do not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest
from click.testing import CliRunner, Result

from freezekit import UnknownStrategyError, load_registry
from freezekit.cli.named import schedules, strategies
from freezekit.cli.plugins import plugins

OWN = metadata.distribution("freezekit").entry_points.select(group="freezekit").names

VERSION = metadata.version("freezekit")


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FREEZEKIT_BLOCK", raising=False)


def ran(command, *args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(command, args)
    assert result.exit_code == code, result.output
    return result


def test_plugins_lists_each_with_its_origin(site) -> None:
    site.add_good()
    lines = ran(plugins).stdout.splitlines()
    assert lines[0].split() == ["plugin", "distribution", "version", "status", "provides"]
    assert lines[1].split() == ["attention-only", "freezekit", VERSION, "ok", "attention-only"]
    assert lines[-1].split() == ["good", "good-plugin", "1.2", "ok", "biases"]


def test_plugins_reports_each_failure_in_full_and_what_to_do(site) -> None:
    site.add("bad-plugin", {"bad": "raise RuntimeError('[red] ' + 'long ' * 60)"})
    result = ran(plugins)
    assert ["bad", "bad-plugin", "1.2", "failed"] in [s.split() for s in result.stdout.splitlines()]
    told = result.stdout.split("\n\n")[1].splitlines()
    assert told == [
        "bad (bad-plugin 1.2, bad):",
        f"  RuntimeError: [red] {'long ' * 60}({site.path}/bad.py:1)",
        "  to do: correct or update bad-plugin, or go on without this plugin: --block bad",
    ]
    ran(plugins, "--strict", code=1)
    ran(plugins, "--strict", "--json", code=1)
    blocked = ran(plugins, "--strict", "--block", "bad")
    assert blocked.stdout.splitlines()[-1].split() == ["bad", "bad-plugin", "1.2", "blocked"]


def test_plugins_as_json(site) -> None:
    site.add("bad-plugin", {"bad": "1 / 0"})
    data = json.loads(ran(plugins, "--json", "--block", "nowhere").stdout)
    assert data["notes"] == ["cannot block 'nowhere': no plugin or distribution has that name"]
    assert data["plugins"][-1] == {
        "name": "bad",
        "module": "bad",
        "distribution": "bad-plugin",
        "version": "1.2",
        "status": "failed",
        "strategies": [],
        "schedules": [],
        "hooks": [],
        "errors": [f"ZeroDivisionError: division by zero ({site.path}/bad.py:1)"],
        "metrics": [],
    }


def test_strategies_lists_name_summary_and_origin(site) -> None:
    site.add_good()
    result = ran(strategies)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["strategy", "summary", "from"]
    assert lines[-1].split() == ["biases", "train", "biases", "only", "good-plugin", "1.2"]
    assert max(map(len, lines)) <= 80
    assert result.stderr == ""


def test_strategies_says_that_a_plugin_failed(site) -> None:
    site.add("bad-plugin", {"bad": "1 / 0"})
    result = ran(strategies, "--block", "nowhere")
    assert "note: 1 plugin(s) failed; 'freezekit plugins' says why" in result.stderr
    assert "note: cannot block 'nowhere'" in result.stderr


def test_one_strategy_in_full(site) -> None:
    site.add_good()
    text = ran(strategies, "biases").stdout
    assert text.splitlines() == [
        "biases: train biases only",
        "from good-plugin 1.2 (good)",
        "",
        "Train biases only.",
        "",
        "As in `biases:keep=fc`.",
        "",
        "option    takes  default     help",
        "keep      str    (required)  a part to train whole",
        "strength  float  0.5         between [0] and 1",
        "",
        "As a spec: biases:keep=fc",
    ]


@pytest.mark.parametrize("name", sorted(OWN))
def test_each_built_in_reads_well(name: str) -> None:
    is_schedule = name in load_registry().schedules
    command = schedules if is_schedule else strategies
    text = ran(command, name).stdout
    data = json.loads(ran(command, name, "--json").stdout)
    assert data["name"] == name
    assert data["plugin"] == {"name": name, "distribution": "freezekit", "version": VERSION}
    assert data["doc"]
    assert all(option["help"] for option in data["options"])
    assert text.splitlines()[-1].startswith(f"As a {'schedule' if is_schedule else 'spec'}: {name}")
    prose = [line for line in text.splitlines() if not line.startswith("    ")]
    assert max(map(len, prose)) <= 80


def test_strategies_as_json(site) -> None:
    site.add_good()
    data = json.loads(ran(strategies, "--json").stdout)
    assert data["notes"] == []
    assert data["strategies"][-1] == {
        "name": "biases",
        "summary": "train biases only",
        "doc": "Train biases only.\n\nAs in `biases:keep=fc`.",
        "example": "biases:keep=fc",
        "plugin": {"name": "good", "distribution": "good-plugin", "version": "1.2"},
        "options": [
            {
                "name": "keep",
                "type": "str",
                "required": True,
                "default": None,
                "help": "a part to train whole",
            },
            {
                "name": "strength",
                "type": "float",
                "required": False,
                "default": "0.5",
                "help": "between [0] and 1",
            },
        ],
    }


def test_a_strategy_without_docstring_or_example(site) -> None:
    site.add_odd(
        """
        @dataclass(frozen=True)
        class Given(Strategy):
            name = "given"
            summary = "given"
            n: int
            mode: Literal["a", "b"] = "a"
            parts: tuple[str, ...] = ()
            def plan(self, backbone): return FreezePlan()
        """
    )
    assert ran(strategies, "given").stdout.splitlines() == [
        "given: given",
        "from odd-plugin 1.2 (odd)",
        "",
        "option  takes    default     help",
        "n       int      (required)",
        "mode    a or b   a",
        "parts   str|...  (empty)",
        "",
        "As a spec: given:n=<int>",
    ]


def test_an_unknown_strategy() -> None:
    result = CliRunner().invoke(strategies, ["batchnorm"])
    assert isinstance(result.exception, UnknownStrategyError)
    assert "unknown strategy 'batchnorm', did you mean 'batch-norm'?" in str(result.exception)


@pytest.mark.parametrize(
    ("args", "absent"),
    [
        (["--help"], ["torch", "rich", "scipy", "freezekit.plugins.registry"]),
        (["plugins"], ["torch", "scipy", "numpy"]),
        (["strategies"], ["torch", "scipy", "numpy"]),
        (["schedules"], ["torch", "scipy", "numpy"]),
        (["schedules", "lp-ft"], ["torch", "scipy", "numpy"]),
        (["schedules", "--json"], ["torch", "rich"]),
        (["strategies", "by-name"], ["torch", "scipy", "numpy"]),
        (["plugins", "--json"], ["torch", "rich"]),
        (["strategies", "--json"], ["torch", "rich"]),
    ],
)
def test_what_a_command_does_not_import(args: list[str], absent: list[str]) -> None:
    code = (
        "import sys\nfrom freezekit.cli import main\n"
        f"main({args!r}, standalone_mode=False)\n"
        f"found = [name for name in {absent!r} if name in sys.modules]\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    "args", [["plugins"], ["strategies"], ["schedules"], ["strategies", "by-name"]]
)
def test_output_is_plain_when_piped(args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from freezekit.cli import main; main()", *args],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"\x1b" not in done.stdout
    assert done.stdout.isascii()
    assert not any(line.endswith(b" ") for line in done.stdout.splitlines())
