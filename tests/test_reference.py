"""The pages for plugin authors agree with the code: signatures, excerpts, imports, links."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import freezekit
import freezekit_strategies
from freezekit import errors, load_registry
from freezekit.plugins import hookspecs
from freezekit.plugins.scaffold import SCHEDULE, plugin_files
from freezekit.spec.options import option_infos
from freezekit.testing import ScheduleContract, StrategyContract

if TYPE_CHECKING:
    from collections.abc import Iterable

PLUGINS = Path(__file__).parents[1] / "plugins"
REFERENCE = (PLUGINS / "REFERENCE.md").read_text()
README = (PLUGINS / "README.md").read_text()
CLASSES = (
    freezekit.Strategy,
    freezekit.Schedule,
    freezekit.Decision,
    freezekit.Progress,
    freezekit.Observed,
    freezekit.TrainingTime,
    freezekit.FreezePlan,
    freezekit.Backbone,
    freezekit.Stage,
    freezekit.ParameterInfo,
    freezekit.Norm,
    freezekit.Registry,
    freezekit.Metric,
    StrategyContract,
    ScheduleContract,
)
HOOKS = [name for name in vars(hookspecs) if name.startswith("freezekit_")]
FUNCTIONS = {**{name: getattr(hookspecs, name) for name in HOOKS}, "load_registry": load_registry}
PLUGIN_FILES = [path for path in PLUGINS.rglob("*.py") if "__pycache__" not in path.parts]


def code(text: str, language: str = "python") -> list[str]:
    return [
        textwrap.dedent(block)
        for block in re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    ]


@cache
def described() -> dict[str, ast.stmt]:
    """The definitions in the blocks of the page, by name. A bare signature is a function."""
    found = {}
    for block in code(REFERENCE):
        whole = block if block.startswith("class") else f"{block.rstrip()}: ..."
        for node in ast.parse(whole).body:
            assert isinstance(node, (ast.ClassDef, ast.FunctionDef))
            found[node.name] = node
    return found


def signature(node: ast.FunctionDef) -> str:
    decorators = "".join(f"@{ast.unparse(d)} " for d in node.decorator_list)
    returns = ast.unparse(node.returns) if node.returns else None
    return f"{decorators}({ast.unparse(node.args)}) -> {returns}"


def members(node: ast.stmt) -> dict[str, str]:
    """Public members of a class: methods by their signature, fields and properties by type."""
    assert isinstance(node, ast.ClassDef)
    found = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            found[ast.unparse(item.target)] = ast.unparse(item.annotation)
        elif isinstance(item, ast.FunctionDef):
            assert item.returns is not None
            is_property = any("property" in ast.unparse(d) for d in item.decorator_list)
            found[item.name] = ast.unparse(item.returns) if is_property else signature(item)
    shown = ("__init__", "__and__")
    hidden = ("pytest_generate_tests",)
    return {
        name: what
        for name, what in found.items()
        if name in shown or not name.startswith(("_", "test_", *hidden))
    }


def source(thing: object) -> ast.stmt:
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]  # type: ignore[arg-type]  # a class or a function


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_each_member_has_the_type_that_the_reference_says(cls: type) -> None:
    assert members(described()[cls.__name__]) == members(source(cls))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_defaults_are_those_of_the_code(cls: type) -> None:
    node = described()[cls.__name__]
    assert isinstance(node, ast.ClassDef)
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and item.value is not None:
            name, text = ast.unparse(item.target), ast.unparse(item.value)
            value = getattr(cls, name)
            assert value == (freezekit.testing.MODELS if text == "MODELS" else eval(text)), name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_has_the_signature_that_the_reference_says(name: str) -> None:
    in_reference = described()[name]
    real = source(FUNCTIONS[name])
    assert isinstance(in_reference, ast.FunctionDef)
    assert isinstance(real, ast.FunctionDef)
    real.decorator_list = []
    assert signature(in_reference) == signature(real)


def test_nothing_else_is_described() -> None:
    assert set(described()) == {*FUNCTIONS, *(cls.__name__ for cls in CLASSES)}


def test_all_that_is_described_is_public() -> None:
    public = {*freezekit.__all__, *freezekit.testing.__all__}
    assert set(described()) - set(HOOKS) <= public


@pytest.mark.parametrize("path", PLUGIN_FILES, ids=lambda path: path.stem)
def test_strategies_and_the_example_import_public_names_alone(path: Path) -> None:
    promised = {"freezekit": freezekit.__all__, "freezekit.testing": freezekit.testing.__all__}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "freezekit":
            assert {alias.name for alias in node.names} <= set(promised[str(node.module)])
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            assert all(name in promised for name in names if name.startswith("freezekit."))


def test_the_plugin_in_ten_lines_works() -> None:
    block, *_ = code(README.split("## Write a strategy")[0])
    module = types.ModuleType("my_strategies")
    exec(block, module.__dict__)
    (cls,) = module.freezekit_strategies()
    assert option_infos(cls) == ()
    model = freezekit.load_backbone("torchvision:resnet18", device="meta")
    decided = cls().plan(freezekit.Backbone(model))
    assert isinstance(decided, freezekit.FreezePlan)
    assert "fc.bias" in decided.frozen


def test_a_built_in_strategy_is_a_class_with_a_public_name() -> None:
    (block,) = code(README.split("## Define the stages")[0].split("## What a plugin can import")[1])
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["frozen"].plan == freezekit.plan(names["model"], "first-n-stages:n=2")


def test_each_built_in_class_can_be_imported_by_its_name() -> None:
    registry = load_registry()
    own = [
        each.cls
        for each in (*registry.strategies.values(), *registry.schedules.values())
        if each.plugin.distribution == "freezekit"
    ]
    assert {cls.__name__ for cls in own} == set(freezekit_strategies.__all__)
    assert all(getattr(freezekit_strategies, cls.__name__) is cls for cls in own)


def test_a_registry_without_a_plugin_refuses_its_strategies() -> None:
    model = freezekit.load_backbone("torchvision:resnet18", device="meta")
    registry = load_registry(block=["head-only"])
    assert isinstance(registry, freezekit.Registry)
    assert freezekit.freeze_(model, "full", registry=registry).plan.frozen == frozenset()
    with pytest.raises(freezekit.UnknownStrategyError, match="are blocked"):
        freezekit.freeze_(model, "head-only", registry=registry)


def test_every_public_error_is_named() -> None:
    for name in freezekit.__all__:
        if name in vars(errors):
            assert f"`{name}`" in REFERENCE, name


def test_kinds_of_stages_and_norms_are_all_named() -> None:
    from freezekit.model.records import NormKind, StageKind

    for kind in (*StageKind.__args__, *NormKind.__args__):  # type: ignore[attr-defined]  # of a Literal
        assert f'`"{kind}"`' in REFERENCE, kind


def test_excerpts_of_the_readme_are_those_of_the_example() -> None:
    files = (PLUGINS / "example-plugin").iterdir()
    check_excerpts(
        README.split("## Write a strategy")[1].split("## Write a schedule")[0],
        [f.read_text() for f in files if f.is_file()],
        5,
    )


def test_excerpts_about_schedules_are_those_that_the_command_writes() -> None:
    text = README.split("## Write a schedule")[1].split("## What a plugin can import")[0]
    check_excerpts(text, plugin_files("my-schedule", SCHEDULE).values(), 4)


def check_excerpts(text: str, files: Iterable[str], count: int) -> None:
    whole = "\n".join(line.strip() for file in files for line in file.splitlines())
    excerpts = code(text) + code(text, "toml")
    assert len(excerpts) == count
    for excerpt in excerpts:
        lines = "\n".join(line.strip() for line in excerpt.strip().splitlines())
        assert lines in whole, excerpt


def test_the_stages_in_the_readme_divide_its_model() -> None:
    from torch import nn

    class MyNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.block, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

    (block, *_) = code(README.split("## Define the stages")[1])
    names: dict[str, object] = {}
    exec(block, names)
    stager = names["freezekit_stages"]
    backbone = freezekit.Backbone(MyNet(), stager=stager)  # type: ignore[arg-type]  # from text
    assert [stage.name for stage in backbone.stages] == ["stem", "blocks", "head"]


@pytest.mark.parametrize("page", ["README.md", "REFERENCE.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (PLUGINS / page).read_text()):
        assert (PLUGINS / target).exists(), target
