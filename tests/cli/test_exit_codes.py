"""The exit codes are the same in the code, in the documents and in --help."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from freezekit import errors
from freezekit.cli import main
from freezekit.errors import ExitCode, FreezekitError

DOCS = Path(__file__).parents[2] / "docs" / "guides" / "ci.md"
MEANINGS = [(int(code), code.meaning) for code in ExitCode]


def help_of(*command: str) -> str:
    """Return a help page as one line."""
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == ExitCode.OK
    return " ".join(result.output.split())


def test_the_docs_list_each_code_with_its_meaning() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", DOCS.read_text(), re.MULTILINE)
    assert [(int(code), meaning) for code, meaning in rows] == MEANINGS


def test_the_help_lists_each_code_with_its_meaning() -> None:
    assert " ".join(f"{code} {meaning}" for code, meaning in MEANINGS) in help_of()


@pytest.mark.parametrize(
    ("command", "codes"),
    [
        ("bench", [0, 1, 2, 3, 4, 130]),
        ("compare", [0, 1, 2, 3]),
        ("extract", [0, 2, 130]),
        ("fit", [0, 1, 2, 4, 130]),
        ("verify", [0, 1, 2]),
    ],
)
def test_the_help_of_a_command_names_its_codes(command: str, codes: list[int]) -> None:
    text = help_of(command).partition("Exit codes:")[2].partition(".")[0]
    assert [int(code) for code in re.findall(r"(?:^|, )(\d+)\b", text.strip())] == codes


def test_each_error_has_a_code_of_the_list() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    found = [c.exit_code for c in classes if issubclass(c, FreezekitError)]
    assert set(found) == {ExitCode.USAGE, ExitCode.PART_FAILED}
