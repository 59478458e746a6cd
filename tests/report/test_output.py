"""Output files: the format by extension, where one can be written, and what may be replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from freezekit.errors import OutputError
from freezekit.report.formats import RESULT_FORMATS
from freezekit.report.output import check_replaceable, check_writable, write
from freezekit.results.records import Result
from freezekit.results.store import to_json

MakeResult = Callable[..., Result]
EXTENSIONS = [known.extension for known in RESULT_FORMATS]


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("count", [1, 2])
def test_what_freezekit_wrote_may_be_replaced(
    make_result: MakeResult, tmp_path: Path, extension: str, count: int
) -> None:
    path = tmp_path / f"r{extension}"
    check_replaceable(path, RESULT_FORMATS)
    write([make_result()] * count, RESULT_FORMATS, path)
    check_replaceable(path, RESULT_FORMATS)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize(
    "text",
    [
        '{"name": "my-package", "version": "1.0.0"}',
        '[{"name": "My benchmark", "unit": "s", "value": 1}]',
        "name,unit\n",
        "# My notes\n\n| strategy |\n",
        "<!doctype html>\n<html><head><title>Mine</title></head></html>\n",
        "**resnet18: the largest batch that fits into 100 MiB**\n\n| strategy | batch |\n",
        '{"kind": "freezekit fit", "freezekit": "0.1.0"}',
    ],
)
def test_what_others_wrote_may_not(tmp_path: Path, extension: str, text: str) -> None:
    path = tmp_path / f"r{extension}"
    path.write_text(text)
    with pytest.raises(OutputError, match=r"is no \.\S+ that .* wrote; name another file, or"):
        check_replaceable(path, RESULT_FORMATS)
    assert path.read_text() == text


def test_one_kind_is_not_taken_for_another(make_result: MakeResult, tmp_path: Path) -> None:
    (tmp_path / "r.github.json").write_text(to_json([make_result()]))
    with pytest.raises(OutputError, match=r"is no \.github\.json"):
        check_replaceable(tmp_path / "r.github.json", RESULT_FORMATS)


def test_blanks_a_part_and_a_file_in_one_line_may_be_replaced(
    make_result: MakeResult, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    text = to_json([make_result()])
    for there in ("", " \n", text[: len(text) // 2], json.dumps(json.loads(text))):
        path.write_text(there)
        check_replaceable(path, RESULT_FORMATS)


def test_check_writable_touches_nothing(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text("old")
    was = old.stat()
    check_writable(old, RESULT_FORMATS)
    check_writable(tmp_path / "new.CSV", RESULT_FORMATS)
    assert [p.name for p in tmp_path.iterdir()] == ["old.json"]
    assert (old.stat().st_mtime_ns, old.stat().st_ino) == (was.st_mtime_ns, was.st_ino)


def test_check_writable_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    locked = tmp_path / "locked.json"
    locked.write_text("old")
    locked.chmod(0o444)
    os.mkfifo(tmp_path / "pipe.json")
    for name, message in {
        "folder.json": "is a folder; name a file in it, such as .*results.json",
        "none/r.json": "there is no folder .*mkdir -p",
        "locked.json/r.json": "there is no folder",
        "locked.json": r"the file is read-only; unlock it \(chmod u\+w\)",
        "pipe.json": "not a regular file",
        "r.xlsx": "the extension '.xlsx' .*expected .json, .csv, .md, ",
        "r": "a name without extension .*expected .json, .csv, .md, ",
        "n" * 300 + ".json": "file name too long",
    }.items():
        with pytest.raises(OutputError, match=message):
            check_writable(tmp_path / name, RESULT_FORMATS)
    assert locked.read_text() == "old"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that refuses even root")
def test_check_writable_tries_the_folder() -> None:
    with pytest.raises(OutputError, match="the folder '/proc' takes no new file"):
        check_writable("/proc/r.json", RESULT_FORMATS)
