"""Code of users type-checks with the types of freezekit: of the guides, and of a plugin."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(page for page in sorted((DOCS / "guides").glob("*.md")) if page.stem != "extract"),
    DOCS / "tutorial.md",
]
"""All but two short programs after `freezekit extract`, one of which needs scikit-learn."""
LEFT_UNTYPED = (
    "reportMissingTypeStubs",
    "reportPrivateImportUsage",
    "reportUnknownArgumentType",
    "reportUnknownMemberType",
    "reportUnknownVariableType",
)
"""Rules that pyright's strict mode finds broken in torch, torchvision and timm themselves. That no
type of freezekit is unknown is checked by `--verifytypes`."""


INTERNAL = (
    *(f"freezekit.{room}." for room in ("bench", "budget", "cli", "fit", "memory", "verify")),
    "freezekit.model.random_state.",
    "freezekit.testing.models.",
)
"""Where types of attributes may be left to inference: no signature that users see names them."""


def module_of(page: Path) -> str:
    """Return the Python blocks of a page as one module, with the line numbers of the page."""
    lines, is_code = [], False
    for line in page.read_text().splitlines():
        is_fence = line.startswith("```")
        lines.append(line if is_code and not is_fence else "")
        if is_fence:
            is_code = not is_code and line == "```python"
    return "\n".join(lines) + "\n"


def said(*command: str, cwd: Path) -> str:
    """Return what a checker prints that looks up packages as this Python does."""
    found_first = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"MYPYPATH": ".", "PATH": found_first}
    command = (sys.executable, "-m", *command)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    # With a prefix, so that no page hides a package: one is called `timm`.
    for page in PAGES:
        (folder / f"guide_{re.sub(r'[^a-z]', '_', page.stem)}.py").write_text(module_of(page))
    for file in (ROOT / "plugins" / "example-plugin").glob("*.py"):  # as the scaffold writes it
        (folder / file.name).write_text(file.read_text())
    return folder


@pytest.mark.slow
def test_the_code_of_the_guides_passes_mypy_strict(recipes: Path) -> None:
    files = sorted(str(file) for file in recipes.glob("*.py"))
    assert len(files) >= 6
    # It is strict, and its cache is that of `make check`.
    options = ["--config-file", str(ROOT / "pyproject.toml")]
    text = said("mypy", *options, *files, cwd=ROOT)
    assert text == f"Success: no issues found in {len(files)} source files\n"


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_code_of_the_guides_passes_pyright_strict(recipes: Path) -> None:
    config: dict[str, Any] = {"typeCheckingMode": "strict", "include": ["."]}
    config |= dict.fromkeys(LEFT_UNTYPED, False)
    (recipes / "pyrightconfig.json").write_text(json.dumps(config))
    text = said("basedpyright", cwd=recipes)
    assert text.endswith("0 errors, 0 warnings, 0 notes\n"), text


@pytest.mark.slow
@pytest.mark.exhaustive
def test_each_public_type_is_known_to_each_checker() -> None:
    arguments = "--verifytypes", "freezekit", "--ignoreexternal", "--outputjson"
    found = json.loads(said("basedpyright", *arguments, cwd=ROOT))["typeCompleteness"]
    assert found["exportedSymbolCounts"]["withUnknownType"] == 0
    inferred = [
        symbol["name"]
        for symbol in found["symbols"]
        if not symbol["isTypeKnown"] and not symbol["name"].startswith(INTERNAL)
    ]
    assert len(found["symbols"]) > 3000
    assert inferred == [], "attributes of public classes need an annotation"
