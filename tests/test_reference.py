"""The pages for plugin authors say what the code says: signatures, fields, excerpts, links."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from functools import cache
from pathlib import Path

import pytest

import freezekit
from freezekit import errors
from freezekit.plugins import hookspecs
from freezekit.testing import StrategyContract

PLUGINS = Path(__file__).parents[1] / "plugins"
REFERENCE = (PLUGINS / "REFERENCE.md").read_text()
README = (PLUGINS / "README.md").read_text()
CLASSES = (
    freezekit.Strategy,
    freezekit.FreezePlan,
    freezekit.Backbone,
    freezekit.Stage,
    freezekit.ParameterInfo,
    freezekit.Norm,
    StrategyContract,
)
HOOKS = [name for name in vars(hookspecs) if name.startswith("freezekit_")]


def code(text: str, language: str = "python") -> list[str]:
    return [
        textwrap.dedent(block)
        for block in re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    ]


@cache
def described() -> dict[str, ast.stmt]:
    """What the page's blocks define, by name; a bare signature is a function without a body."""
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
    """Public members of a class: methods by signature, fields and properties by their type."""
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


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_has_the_signature_that_the_reference_says(hook: str) -> None:
    told = described()[hook]
    real = source(getattr(hookspecs, hook))
    assert isinstance(told, ast.FunctionDef)
    assert isinstance(real, ast.FunctionDef)
    real.decorator_list = []
    assert signature(told) == signature(real)


def test_nothing_else_is_described() -> None:
    assert set(described()) == {*HOOKS, *(cls.__name__ for cls in CLASSES)}


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
    example = "\n".join(
        textwrap.dedent(line) for f in files if f.is_file() for line in f.read_text().splitlines()
    )
    five_minutes = README.split("## A model family")[0]
    excerpts = code(five_minutes) + code(five_minutes, "toml")
    assert len(excerpts) == 5
    for excerpt in excerpts:
        lines = "\n".join(line.strip() for line in excerpt.strip().splitlines())
        assert lines in example, excerpt


def test_the_model_family_of_the_readme_is_staged() -> None:
    from torch import nn

    class MyNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.block, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

    (block,) = code(README.split("## A model family")[1])
    names: dict[str, object] = {}
    exec(block, names)
    stager = names["freezekit_stages"]
    backbone = freezekit.Backbone(MyNet(), stager=stager)  # type: ignore[arg-type]  # from text
    assert [stage.name for stage in backbone.stages] == ["stem", "blocks", "head"]


@pytest.mark.parametrize("page", ["README.md", "REFERENCE.md"])
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (PLUGINS / page).read_text()):
        assert (PLUGINS / target).exists(), target
