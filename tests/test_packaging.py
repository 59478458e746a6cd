"""What is installed: one wheel with two import packages, and a third party's plugin beside it."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

import freezekit

ROOT = Path(__file__).parents[1]


def test_entry_points_are_those_that_are_installed() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = importlib.metadata.distribution("freezekit").entry_points.select(group="freezekit")
    assert {e.name: e.value for e in installed} == declared["entry-points"]["freezekit"], (
        "pyproject.toml and what is installed differ; run: pip install -e ."
    )
    assert declared["version"] == freezekit.__version__


def test_public_names_are_all_there() -> None:
    for name in freezekit.__all__:
        assert getattr(freezekit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        freezekit.nothing  # noqa: B018


def test_importing_freezekit_loads_no_plugin_and_no_torch() -> None:
    script = (
        "import sys, freezekit; "
        "assert not {'torch', 'freezekit_strategies', 'rich'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_pickled_models_need_no_private_class_by_another_name() -> None:
    # Files that people saved must load in later versions: the classes keep their place.
    from freezekit.holding import HeldInEval, Record

    assert (HeldInEval.__module__, Record.__module__) == ("freezekit.holding",) * 2


@pytest.mark.slow
def test_a_real_install_finds_built_in_and_third_party_strategies(tmp_path: Path) -> None:
    """Wheels are built and installed by pip; torch and the like are borrowed, not downloaded."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / "env" / "lib" / version / "site-packages"
    # Behind the new environment's own packages; an editable install's path hooks do not count.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def install(source: Path) -> None:
        options = ("--quiet", "--no-deps", "--disable-pip-version-check", "--force-reinstall")
        subprocess.run([python, "-m", "pip", "install", *options, str(source)], check=True)

    install(ROOT)
    install(ROOT / "plugins" / "example-plugin")
    installed = {path.name for path in site.iterdir()}
    assert {"freezekit", "freezekit_strategies", "freeze_biases.py"} <= installed
    assert "plugins" not in installed
    for package in ("freezekit", "freezekit_strategies"):
        assert (site / package / "py.typed").exists()
    assert (site / "freezekit" / "bench" / "result.schema.json").exists()

    def freezekit_command(*args: str) -> str:
        command = [str(tmp_path / "env" / "bin" / "freezekit"), *args]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [python, "-c", "import freezekit; print(freezekit.__file__)"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    ).stdout  # fmt: skip
    assert where.startswith(str(tmp_path))
    listed = json.loads(freezekit_command("plugins", "--json"))
    assert "freezekit-freeze-biases" in str(listed)
    assert "failed" not in str(listed)
    shown = freezekit_command("show", "torchvision:resnet18", "-s", "freeze-biases", "--params")
    assert "bn1.bias: False" in shown
    assert "fc.bias: True" in shown
    freezekit_command("plugins", "new", "my-strategy")
    install(tmp_path / "my-strategy")
    assert "my-strategy" in freezekit_command("strategies")
    tested = subprocess.run(
        [python, "-m", "pytest", "--quiet"],
        capture_output=True, text=True, cwd=tmp_path / "my-strategy", check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout
    blocked = freezekit_command("strategies", "--block", "freezekit-freeze-biases")
    assert "freeze-biases" not in blocked
