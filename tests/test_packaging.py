"""What is installed: one wheel with two import packages, and a third party's plugin beside it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
import sysconfig
import textwrap
import tomllib
import venv
from pathlib import Path

import pytest

import freezekit
from tests.sampled import sampled

ROOT = Path(__file__).parents[1]

Completed = subprocess.CompletedProcess[str]


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


def test_freezing_a_model_loads_neither_rich_nor_click_nor_scipy() -> None:
    script = textwrap.dedent(
        """
        import sys
        import freezekit
        freeze_ = freezekit.freeze_
        unwanted = ("rich", "click", "scipy")
        assert not sys.modules.keys() & set(unwanted), "freezekit.freeze_ alone loads them"

        import torch
        from torchvision.models import resnet18
        by_torch = sys.modules.keys() & set(unwanted)
        with torch.device("meta"):
            model = resnet18()
        freeze_(model, "first-n-stages:n=2")
        loaded = (sys.modules.keys() & set(unwanted)) - by_torch
        assert not loaded, f"freeze_ loads {loaded}"
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_classes_in_saved_models_keep_their_modules() -> None:
    # A later version must load the models that users saved: a pickle names class and module.
    from freezekit.freezing.eval_hold import HeldInEval, Record

    assert (HeldInEval.__module__, Record.__module__) == ("freezekit.freezing.eval_hold",) * 2
    assert freezekit.FreezePlan.__module__ == "freezekit.freezing.plan"  # a Record contains one


class Environment:
    """A fresh environment with freezekit and the example as pip installs them.

    Torch and the like are borrowed from this one, not downloaded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "env", with_pip=True)
        self.binaries = folder / "env" / "bin"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.site = folder / "env" / "lib" / version / "site-packages"
        # Behind the environment's own packages; an editable install's path hooks do not count.
        (self.site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.install(ROOT)
        self.install(ROOT / "plugins" / "example-plugin")

    def install(self, source: Path) -> None:
        """Build a wheel of a folder and install it."""
        options = ("--quiet", "--no-deps", "--disable-pip-version-check", "--force-reinstall")
        done = self.run("python", "-m", "pip", "install", *options, str(source))
        assert done.returncode == 0, done.stderr

    def install_module(self, name: str, source: str, requires: str = "freezekit") -> None:
        """Install a distribution made up here: one module, and an entry point of its name."""
        folder = self.folder / name
        folder.mkdir()
        module = name.replace("-", "_")
        (folder / f"{module}.py").write_text(textwrap.dedent(source))
        (folder / "pyproject.toml").write_text(
            f"""
            [build-system]
            requires = ["hatchling"]
            build-backend = "hatchling.build"
            [project]
            name = "{name}"
            version = "0.3"
            dependencies = ["{requires}"]
            [project.entry-points.freezekit]
            {name} = "{module}"
            [tool.hatch.build.targets.wheel]
            only-include = ["{module}.py"]
            """
        )
        self.install(folder)

    def run(self, program: str, *args: str, where: Path | None = None) -> Completed:
        """Run a program of the environment, away from the sources."""
        return subprocess.run(
            [str(self.binaries / program), *args],
            capture_output=True, text=True, cwd=where or self.folder, check=False,
        )  # fmt: skip

    def freezekit(self, *args: str) -> str:
        """Run a freezekit command that is to succeed, and return what it prints."""
        done = self.run("freezekit", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("installed"))


@pytest.mark.slow
def test_a_real_install_finds_built_in_and_third_party_strategies(environment: Environment) -> None:
    installed = {path.name for path in environment.site.iterdir()}
    assert {"freezekit", "freezekit_strategies", "freeze_biases.py"} <= installed
    assert "plugins" not in installed
    for package in ("freezekit", "freezekit_strategies"):
        assert (environment.site / package / "py.typed").exists()
    schema = environment.run("python", "-m", "freezekit.results.schema")
    assert json.loads(schema.stdout)["title"] == "freezekit bench result", schema.stderr
    for name in ("page.html.j2", "style.css", "script.js"):
        assert (environment.site / "freezekit" / "report" / "html" / name).exists()
    where = environment.run("python", "-c", "import freezekit; print(freezekit.__file__)").stdout
    assert where.startswith(str(environment.folder))
    listed = json.loads(environment.freezekit("plugins", "--json"))
    assert "freezekit-freeze-biases" in str(listed)
    assert "failed" not in str(listed)
    shown = environment.freezekit("show", "torchvision:resnet18", "-s", "freeze-biases", "--params")
    assert "bn1.bias: False" in shown
    assert "fc.bias: True" in shown
    blocked = environment.freezekit("strategies", "--block", "freezekit-freeze-biases")
    assert "freeze-biases" not in blocked


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(["my-strategy", "my-schedule"], every=2))
@pytest.mark.exhaustive
def test_each_command_for_a_new_plugin_works(environment: Environment, name: str) -> None:
    text = (ROOT / "plugins" / "README.md").read_text()
    (commands,) = re.findall(rf"^```\n(freezekit plugins new {name}.*?)^```$", text, re.M | re.S)
    where = environment.folder
    for line in commands.splitlines():
        program, *args = shlex.split(line, comments=True)
        if program == "cd":
            where /= args[0]
            continue
        if program == "pip":  # build tools that are here already are not downloaded again
            args += ["--quiet", "--disable-pip-version-check"]
        done = environment.run("python", "-m", program, *args, where=where)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert where.name == name


@pytest.mark.slow
@pytest.mark.exhaustive
def test_broken_plugins_that_are_really_installed_stop_nothing(environment: Environment) -> None:
    given = """
        from dataclasses import dataclass
        from freezekit import FreezePlan, Strategy, hookimpl

        @dataclass(frozen=True)
        class Given(Strategy):
            name, summary = "head-only", "another one"
            def plan(self, backbone):
                return FreezePlan()

        @hookimpl
        def freezekit_strategies():
            return [Given]
    """
    environment.install_module("broken-plugin", "import no_such_module\n")
    environment.install_module("thief-plugin", given)
    hook = "from freezekit import hookimpl\n@hookimpl\ndef freezekit_phases(): return []\n"
    environment.install_module("later-plugin", hook, requires="freezekit>=7")

    told = " ".join(environment.freezekit("plugins").split())
    assert "ModuleNotFoundError: No module named 'no_such_module'" in told
    assert "the strategy name 'head-only' of plugin 'thief-plugin' of thief-plugin 0.3" in told
    assert "is taken by plugin 'head-only' of freezekit" in told
    assert "later-plugin 0.3 requires freezekit>=7, but freezekit" in told
    assert "unknown hook 'freezekit_phases'" in told
    assert environment.run("freezekit", "plugins", "--strict").returncode == 1
    others = ("broken-plugin", "thief-plugin", "later-plugin")
    options = [part for name in others for part in ("--block", name)]
    assert environment.run("freezekit", "plugins", "--strict", *options).returncode == 0
    table = environment.freezekit(
        "bench", "torchvision:resnet18", "--image-size", "64", "--static",
        "-s", "head-only", "-s", "freeze-biases",
    )  # fmt: skip
    assert "head-only" in table
    assert "freeze-biases" in table
