"""Files of other tools are not replaced."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from freezekit.errors import OutputError
from freezekit.report.replacing import check_replaceable
from freezekit.report.write import write
from freezekit.results.records import Result
from freezekit.results.store import EXTENSIONS, to_json

if TYPE_CHECKING:
    from pathlib import Path

MakeResult = Callable[..., Result]


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("count", [1, 2])
def test_what_freezekit_wrote_may_be_replaced(
    make_result: MakeResult, tmp_path: Path, extension: str, count: int
) -> None:
    path = tmp_path / f"r{extension}"
    check_replaceable(path)
    write([make_result()] * count, path)
    check_replaceable(path)


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
        check_replaceable(path)
    assert path.read_text() == text


def test_one_kind_is_not_taken_for_another(make_result: MakeResult, tmp_path: Path) -> None:
    (tmp_path / "r.github.json").write_text(to_json([make_result()]))
    with pytest.raises(OutputError, match=r"is no \.github\.json"):
        check_replaceable(tmp_path / "r.github.json")


def test_blanks_a_part_and_a_file_in_one_line_may_be_replaced(
    make_result: MakeResult, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    text = to_json([make_result()])
    for there in ("", " \n", text[: len(text) // 2], json.dumps(json.loads(text))):
        path.write_text(there)
        check_replaceable(path)
