"""CONTRIBUTING.md agrees with the project: its paths and commands exist, its map has every room."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from benchmarks.zoo.__main__ import main as zoo
from freezekit.cli import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE)
QUOTED = [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", PROSE)]
FILES_OF_ROOMS = re.findall(r"^\| `(freezekit/\w+/)` \| (.*) \|$", TEXT, re.MULTILINE)
BLOCK = "\n".join(re.findall(r"^```\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
COMMANDS = [*QUOTED, *(line.partition("#")[0].strip() for line in BLOCK.splitlines())]


def commands(program: str) -> list[str]:
    return sorted({command for command in COMMANDS if command.startswith(f"{program} ")})


def test_every_path_exists() -> None:
    in_rooms = {name for _, files in FILES_OF_ROOMS for name in re.findall(r"`(\w+/)`", files)}
    paths = {text for text in QUOTED if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", text) and "/" in text}
    paths = {path for path in paths - in_rooms if not path.startswith("build/")}  # made by make
    top = {text for text in QUOTED if re.fullmatch(r"\w+\.(md|toml)", text)}
    assert len(paths) > 40
    assert [path for path in sorted(paths | top) if not (ROOT / path).exists()] == []
    folders = {path for path in paths if path.endswith("/")}
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_map_has_one_line_for_each_room() -> None:
    rooms = {
        f"freezekit/{path.name}/"
        for path in (ROOT / "freezekit").iterdir()
        if (path / "__init__.py").exists()
    }
    assert sorted(room for room, _ in FILES_OF_ROOMS) == sorted(rooms)


@pytest.mark.parametrize(("room", "files"), FILES_OF_ROOMS, ids=lambda text: text.split(" ")[0])
def test_files_that_the_map_names_are_in_their_room(room: str, files: str) -> None:
    names = re.findall(r"`(\w+(?:\.py|/))`", files)
    assert [name for name in names if not (ROOT / room / name).exists()] == []


def test_every_target_of_make_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [command.removeprefix("make ") for command in commands("make")]
    assert len(targets) >= 4
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


@pytest.mark.parametrize("command", commands("freezekit"))
def test_every_command_of_freezekit_exists_with_its_options(command: str) -> None:
    _, *args = shlex.split(command)
    found: click.Command = main
    while isinstance(found, click.Group) and args and args[0] in found.commands:
        found = found.commands[args.pop(0)]
    assert found is not main
    known = {option for parameter in found.params for option in parameter.opts}
    assert [arg for arg in args if arg.startswith("-") and arg not in known] == []


@pytest.mark.parametrize("command", commands("python -m"))
def test_every_module_that_is_run_exists_with_its_arguments(command: str) -> None:
    _, _, module, *args = shlex.split(command)
    if module == "benchmarks.zoo":
        zoo.make_context(module, args).close()  # refuses what it does not know, and runs nothing
    elif module == "pytest":
        assert [arg for arg in args if not (ROOT / arg).exists()] == []
    else:
        source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
        assert [arg for arg in args if f'"{arg}"' not in source] == []


def test_names_in_files_exist() -> None:
    names = re.findall(r"`(\w+)`\s+in\s+`([\w./]+\.py)`", PROSE)
    assert len(names) >= 3
    for name, path in names:
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), (name, path)
