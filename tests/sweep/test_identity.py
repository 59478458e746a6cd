"""What tells one training from another: the code of the user too."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from freezekit.model.own_folder import look_first_in
from freezekit.model.sources import import_source
from freezekit.sweep.identity import code_digest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the user's own: a model, what it imports, and what it does not."""
    folder = tmp_path / "own_nets"
    folder.mkdir()
    for name, code in {
        "__init__": "",
        "model": "from . import parts\nfrom own_nets.sizes import WIDTH\ndef build(): ...\n",
        "parts": "import math\n",
        "sizes": "WIDTH = 8\n",
        "other": "",
    }.items():
        (folder / f"{name}.py").write_text(code)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    look_first_in(str(tmp_path), "own_nets")
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_nets"]:
        del sys.modules[name]


@pytest.mark.parametrize("changed", ["model", "parts", "sizes"])
def test_what_a_model_imports_is_its_code(package: Path, changed: str) -> None:
    import_source("own_nets.model:build", "own_nets.model")
    import_source("own_nets.other:build", "own_nets.other")
    before = code_digest("own_nets.model:build")
    assert len(before) == 16
    with (package / "other.py").open("a") as file:
        file.write("# of another model\n")
    assert code_digest("own_nets.model:build") == before
    with (package / f"{changed}.py").open("a") as file:
        file.write("# changed\n")
    assert code_digest("own_nets.model:build") != before


def test_a_file_is_known_with_what_it_imports(tmp_path: Path) -> None:
    (tmp_path / "own_helper_of_a_net.py").write_text("WIDTH = 8\n")
    net = tmp_path / "net.py"
    net.write_text("import own_helper_of_a_net\ndef build(): ...\n")
    import_source(f"{net}:build", str(net))
    before = code_digest(f"{net}:build")
    (tmp_path / "own_helper_of_a_net.py").write_text("WIDTH = 16\n")
    assert code_digest(f"{net}:build") != before


@pytest.mark.parametrize("text", ["timm:resnet18", "torchvision:resnet18", "no_such.py:f", "a.b:f"])
def test_a_library_and_what_is_not_there_have_no_code_of_their_own(text: str) -> None:
    assert code_digest(text) == ""
