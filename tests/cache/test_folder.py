"""A cache in a folder: written whole or not at all, by one process, and of one thing."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from freezekit import CacheError, freeze_
from tests.cache.test_cached_training import BATCH, SAMPLES, Branches, data

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = "tests.cache.filling_a_folder"


class Sample(NamedTuple):
    image: Tensor
    label: Tensor


def test_samples_that_a_file_cannot_keep_are_refused(tmp_path: Path) -> None:
    class Odd(Dataset[Any]):
        def __len__(self) -> int:
            return SAMPLES

        def __getitem__(self, index: int) -> Sample:
            return Sample(*data()[index])

    frozen = freeze_(Branches(), "head-only")
    assert isinstance(frozen.cache(Odd(), BATCH)[0], Sample)
    with pytest.raises(CacheError, match="more beside its image than a file can keep safely"):
        frozen.cache(Odd(), BATCH, folder=tmp_path)


class EndsError(Exception):
    pass


class Forty(Dataset[Any]):
    """More samples than are looked at before a cache is filled."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return data()[index % SAMPLES]


class Ending(Forty):
    """A data set whose disk fails at a sample, as long as it is told."""

    fails = True

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index == 33 and self.fails:
            raise EndsError
        return super().__getitem__(index)


def test_an_interrupted_fill_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freezekit.cache.rows.UNIT_BYTES", 1)  # one batch a file
    model = Branches()
    frozen = freeze_(model, "head-only")
    with pytest.raises(EndsError):
        frozen.cache(Ending(), BATCH, folder=tmp_path)
    assert len(list(tmp_path.rglob("rows-*"))) == 8
    monkeypatch.setattr(Ending, "fails", False)
    calls = []
    hook = model.stem.register_forward_pre_hook(lambda *_: calls.append(1))
    cached = frozen.cache(Ending(), BATCH, folder=tmp_path)
    hook.remove()
    whole = frozen.cache(Ending(), BATCH)
    for index in range(len(whole)):
        assert torch.equal(cached[index][0], whole[index][0])
        assert torch.equal(cached[index][1], whole[index][1])


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    frozen = freeze_(Branches(), "head-only")
    frozen.cache(data(), BATCH, folder=tmp_path / "a")
    other = freeze_(Branches(), "head-only")  # other random weights
    with pytest.raises(CacheError, match="is of something else: frozen weights was"):
        other.cache(data(), BATCH, folder=tmp_path / "a")
    with pytest.raises(CacheError, match="is of something else: batch size was 4, and is 5"):
        frozen.cache(data(), 5, folder=tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(CacheError, match="is not empty and holds no cache"):
        frozen.cache(data(), BATCH, folder=tmp_path / "b")
    (rows,) = (tmp_path / "a").rglob("rows-*")
    written = rows.read_bytes()
    whole = frozen.cache(data(), BATCH)
    for damaged in (b"broken", b"", written[:-8]):
        rows.write_bytes(damaged)
        cached = frozen.cache(data(), BATCH, folder=tmp_path / "a")  # fills it again
        assert len(rows.read_bytes()) == len(written)
        assert all(torch.equal(cached[i][0], whole[i][0]) for i in range(SAMPLES))
    cached = frozen.cache(data(), BATCH, folder=tmp_path / "a")
    rows.write_bytes(b"broken")  # while it is in use
    with pytest.raises(CacheError, match=r"cannot read .*which fills what is damaged"):
        _ = pickle.loads(pickle.dumps(cached))[0]  # as a worker of a data loader has it
    rows.with_name("cache.json").unlink()
    with pytest.raises(CacheError, match=r"has rows and no cache.json.*delete it"):
        frozen.cache(data(), BATCH, folder=tmp_path / "a")


def test_two_processes_do_not_fill_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freezekit.cache.rows.UNIT_BYTES", 1)
    torch.manual_seed(0)
    frozen = freeze_(Branches(), "head-only")
    other = subprocess.Popen([sys.executable, "-m", SCRIPT, "slow", str(tmp_path)])
    try:
        end = time.monotonic() + 60
        while not list(tmp_path.rglob("samples-00001.pt")) and time.monotonic() < end:
            time.sleep(0.05)
        with pytest.raises(CacheError, match="another process fills the cache in"):
            frozen.cache(Forty(), BATCH, folder=tmp_path)
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    cached = frozen.cache(Forty(), BATCH, folder=tmp_path)  # goes on where the other was killed
    whole = frozen.cache(Forty(), BATCH)
    assert all(torch.equal(cached[i][0], whole[i][0]) for i in range(len(whole)))
    assert not list(tmp_path.rglob("*.draft"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of file sizes")
def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", SCRIPT, "limited", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert "cannot write" in done.stdout, done.stderr
    assert "what was written before is kept, and the same call goes on" in done.stdout
    assert not list(tmp_path.rglob("*.draft"))
    assert not list(tmp_path.rglob("rows-*"))


def test_a_folder_without_space_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Large(Dataset[Any]):
        """So many samples that no disk holds their features."""

        def __len__(self) -> int:
            return 10**13

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return data()[index % SAMPLES][0], index

    monkeypatch.setattr("freezekit.cache.rows.UNIT_BYTES", 2**60)
    monkeypatch.setattr("freezekit.cache.rows.UNIT_BATCHES", 2**60)
    frozen = freeze_(Branches(), "head-only")
    with pytest.raises(CacheError, match=r"the cache needs .* TiB more in .*; give another"):
        frozen.cache(Large(), BATCH, folder=tmp_path)
    with pytest.raises(CacheError, match=r"of memory are available; .*, or give a folder"):
        frozen.cache(Large(), BATCH)


def test_a_path_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    frozen = freeze_(Branches(), "head-only")
    with pytest.raises(CacheError, match="cannot write a cache in"):
        frozen.cache(data(), BATCH, folder=tmp_path / "file" / "x")
