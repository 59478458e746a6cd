"""Files: written whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from freezekit.results.files import write_text

if TYPE_CHECKING:
    from pathlib import Path


def test_writing_replaces_the_whole_file_and_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("x" * 10_000)
    path.chmod(0o640)
    write_text(path, "new \udcff\n")
    assert path.read_bytes() == b"new \\udcff\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_text(tmp_path / "r.json", "{}")
    assert (tmp_path / "r.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "behind.json")
    write_text(tmp_path / "link.json", "{}")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "behind.json").read_text() == "{}"


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")
    code = (  # a limit on file size stands in for a full disk: the write itself fails midway
        "import resource, sys; from freezekit.results.files import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_text(sys.argv[1], 'n' * 100_000)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("OutputError cannot write")
    assert "the file that was there is unchanged" in done.stdout
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("r.json", "old")]
