"""`freezekit plugins new` writes a complete plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from freezekit.cli import main
from freezekit.errors import NewPluginError
from freezekit.plugins.scaffold import SCHEDULE, plugin_files, write_plugin

EXAMPLE = Path(__file__).parents[2] / "plugins" / "example-plugin"


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ("plugins", "new", *args))


def test_the_example_is_as_the_command_writes_it() -> None:
    example = {path.name: path.read_text() for path in EXAMPLE.iterdir() if path.is_file()}
    assert example == plugin_files("freeze-biases")


def test_it_lists_the_files_and_the_next_commands(tmp_path: Path) -> None:
    result = run("my-strategy", "--dir", str(tmp_path / "mine"))
    assert result.exit_code == 0, result.output
    written = {path.name for path in (tmp_path / "mine").iterdir()}
    assert written == {"README.md", "my_strategy.py", "pyproject.toml", "test_my_strategy.py"}
    assert all(f"wrote {tmp_path / 'mine' / name}" in result.stdout for name in written)
    assert "freezekit bench -s my-strategy" in result.stdout
    assert "class MyStrategy(Strategy)" in (tmp_path / "mine" / "my_strategy.py").read_text()


def test_a_schedule_is_written_with_its_own_next_commands(tmp_path: Path) -> None:
    result = run("my-schedule", "--schedule", "--dir", str(tmp_path / "mine"))
    assert result.exit_code == 0, result.output
    written = {path.name: path.read_text() for path in (tmp_path / "mine").iterdir()}
    assert set(written) == {"README.md", "my_schedule.py", "pyproject.toml", "test_my_schedule.py"}
    assert written == plugin_files("my-schedule", SCHEDULE)
    assert "class MySchedule(Schedule)" in written["my_schedule.py"]
    shown = "freezekit show torchvision:resnet18 --schedule my-schedule --epochs 4"
    for text in (result.stdout, written["README.md"]):
        assert "freezekit schedules my-schedule" in text
        assert shown in text
        assert "strateg" not in text
        assert "bench" not in text


def test_files_in_an_existing_folder_are_kept(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    result = run("my-strategy", "--dir", str(tmp_path))
    assert result.exit_code == 2
    assert "README.md already exists; give another --dir" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "README.md").rename(tmp_path / "NOTES.md")
    assert run("my-strategy", "--dir", str(tmp_path)).exit_code == 0
    assert (tmp_path / "NOTES.md").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "My-Strategy", "my strategy", "-x", "a--b", "1st", "a_b"])
def test_a_name_that_is_not_valid(name: str) -> None:
    with pytest.raises(NewPluginError, match="is not a valid name of a strategy"):
        plugin_files(name)


@pytest.mark.parametrize(("kind", "name"), [("strategy", "head-only"), ("schedule", "lp-ft")])
@pytest.mark.parametrize("options", [(), ("--schedule",)])
def test_a_name_that_is_taken(
    kind: str, name: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    result = run(name, *options, "--dir", str(tmp_path / "mine"))
    assert result.exit_code == 2
    assert f"a {kind} {name!r} already exists, provided by freezekit" in result.stderr
    assert not (tmp_path / "mine").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NewPluginError, match=r"cannot write .*Not a directory"):
        write_plugin("my-strategy", tmp_path / "file" / "mine")


@pytest.mark.parametrize("name", ["class", "json", "pytest", "freezekit"])
def test_a_name_that_would_hide_another_module_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NewPluginError, match=rf"{name!r} .*give another name"):
        write_plugin(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "name", ["conftest", "setup", "freeze-plan", "strategy", "class-var", "decision"]
)
def test_a_name_with_another_meaning_in_a_plugin_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NewPluginError, match=r"has another meaning .*give another name"):
        write_plugin(name, tmp_path / "new")


def test_a_name_too_long_for_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NewPluginError, match=r"cannot write .*File name too long"):
        write_plugin("x" * 300, tmp_path / "new")
