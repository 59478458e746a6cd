"""Places: folders, URLs, and those that cannot be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from freezekit.errors import TrainingError
from freezekit.training.storage import check_place, names, read, remedy, write

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["folder", "file URL", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "folder": str(tmp_path / "a" / "b"),
        "file URL": f"file://{tmp_path}/c/d",
        "memory": f"memory://{tmp_path.name}/e",
    }[request.param]


def test_what_is_written_is_read_and_listed(place: str) -> None:
    assert (read(place, "one"), names(place)) == (None, ())
    write(place, "one", b"1")
    write(place, "two", b"2")
    write(place, "one", b"3")
    assert (read(place, "one"), read(place, "three")) == (b"3", None)
    assert names(place) == ("one", "two")


def test_a_place_that_is_checked_is_left_as_it_was(place: str, tmp_path: Path) -> None:
    check_place(place)
    assert names(place) == ()
    assert not (tmp_path / "a" / "b").exists()
    write(place, "one", b"1")
    check_place(place)
    assert names(place) == ("one",)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("/proc/x", "cannot make the folder '/proc/x': no such file or directory; give another"),
        ("nowhere://x", "cannot use the storage 'nowhere://x': ValueError"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_told(place: str, said: str) -> None:
    with pytest.raises(TrainingError) as error:
        check_place(place)
    assert f"no checkpoint can be kept: {said}" in str(error.value)


def test_only_a_full_disk_asks_for_room(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as error:
        write(str(tmp_path / "new"), "n" * 300, b"1")
    assert remedy(error.value, "give another folder") == "give another folder"
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(TrainingError, match="file name too long"):
        write(str(tmp_path / "old"), "n" * 300, b"1")
    assert (tmp_path / "old").exists()


def test_a_place_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot make the folder"):
        write(str(tmp_path / "file" / "inside"), "one", b"1")
    with pytest.raises(TrainingError, match=r"cannot use the storage 'nowhere://x': ValueError"):
        read("nowhere://x", "one")
    with pytest.raises(TrainingError, match="cannot list the folder"):
        names(str(tmp_path / "file"))


def test_a_package_that_is_missing_is_named() -> None:
    pytest.importorskip("fsspec")
    try:
        import s3fs  # type: ignore[import-not-found]  # noqa: F401  # whether it is there
    except ImportError:
        with pytest.raises(TrainingError, match=r"cannot reach 's3://bucket/x': Install s3fs"):
            read("s3://bucket/x", "one")
