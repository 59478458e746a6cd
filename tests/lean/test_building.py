"""The native core cannot be built or loaded: one line says why, and lean works all the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from freezekit.lean.native import building

SCRIPT = """
import torch
from torch import nn
from freezekit.lean import Lean
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
lean = Lean(model)
lean.attach()
model(torch.randn(2, 3, 32, 32)).sum().backward()
print(lean.description)
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    (tmp_path / "freezekit").mkdir()
    return tmp_path / "freezekit"


def script(name, text):
    name.write_text(f"#!/bin/sh\n{text}\n")
    name.chmod(0o755)
    return str(name)


@pytest.mark.parametrize("compiler", ["nonsense", "false", "true", "/", "echo -n"])
def test_a_compiler_that_fails(compiler, cache, monkeypatch):
    monkeypatch.setenv("CXX", compiler)
    built = building.build()
    assert built.library is None
    assert built.why_not.startswith(f"{compiler} did not compile it; {cache}")
    assert building.find_built() == built


def test_messages_in_any_encoding(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", script(tmp_path / "cc", r"printf '\377 bad' >&2; exit 1"))
    assert building.build().library is None
    assert "bad" in next(cache.glob("*.failed")).read_text(encoding="utf-8")


def test_another_compiler_is_tried(cache, monkeypatch, tmp_path):
    assert building.build().library is None
    monkeypatch.setenv(
        "CXX", script(tmp_path / "cc", 'while [ "$1" != -o ]; do shift; done; >"$2"')
    )
    assert building.find_built() is None
    built = building.build()
    assert built.library is not None
    monkeypatch.setenv("CXX", "false")  # what is built is there for all
    assert building.find_built() == built


@pytest.mark.parametrize("suffix", [".so", ".failed"])
@pytest.mark.parametrize("content", [b"", b"\x7fELF and no more"])
def test_a_damaged_file_is_as_none(suffix, content, cache):
    building.build()
    failure = next(cache.glob("*.failed"))
    failure.unlink()
    failure.with_suffix(suffix).write_bytes(content)
    assert building.find_built() is None


def test_no_compiler(cache, monkeypatch):
    monkeypatch.setenv("CXX", " ")
    monkeypatch.setenv("PATH", "")
    assert building.build().why_not == "no C++ compiler was found (g++, clang++ or $CXX)"


def test_no_home(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(building.Path, "home", home)
    why_not = "there is no folder to keep it in: Could not determine home directory."
    assert building.find_built() == (None, why_not)


def test_a_cache_that_is_no_folder(cache, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert building.build().why_not.endswith("file/freezekit cannot be written: Not a directory")


def test_a_relative_cache_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert building.cache_folder() == building.Path.home() / ".cache" / "freezekit"


def test_lean_without_it(cache):
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert "core in Python: false did not compile it" in run.stdout
    assert run.stderr.count("\n") == 1  # that it compiles
