"""Output that cannot be written: the code still says what happened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from freezekit.results.records import Parameters, Result, Row, Workload
from freezekit.results.store import to_json

COMMAND = [sys.executable, "-m", "freezekit"]
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")


@pytest.fixture
def stored(tmp_path: Path) -> str:
    rows = (Row("full", parameters=Parameters(9, 9, "a")),)
    path = tmp_path / "a.json"
    path.write_text(to_json([Result("0.1.0", Workload("timm:resnet18"), {}, rows, complete=True)]))
    return str(path)


@pytest.mark.parametrize("args", [("compare", "FILE", "FILE"), ("--help",), ("bench", "--help")])
def test_a_reader_that_has_gone_ends_it_quietly(args: tuple[str, ...], stored: str) -> None:
    command = [*COMMAND, *(stored if arg == "FILE" else arg for arg in args)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@full
@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("compare", "FILE", "FILE"), 0),
        (("compare", "FILE", "nosuch.json"), 2),
        (("compare", "FILE"), 2),
        (("nosuch",), 2),
    ],
)
def test_messages_that_cannot_be_written_do_not_change_the_code(
    args: tuple[str, ...], code: int, stored: str
) -> None:
    command = [*COMMAND, *(stored if arg == "FILE" else arg for arg in args)]
    with Path("/dev/full").open("wb") as nowhere:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=nowhere, check=False)
    assert done.returncode == code


@full
def test_output_that_cannot_be_written_is_an_error(stored: str) -> None:
    with Path("/dev/full").open("wb") as nowhere:
        done = subprocess.run(
            [*COMMAND, "compare", stored, stored],
            stdout=nowhere,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(b"Error: cannot write the output: ")
