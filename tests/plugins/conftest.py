"""Distributions written to disk: real `.dist-info` folders that importlib.metadata finds."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = '''
from dataclasses import dataclass
from typing import Annotated, ClassVar

from freezekit import FreezePlan, Strategy, hookimpl


@dataclass(frozen=True)
class Biases(Strategy):
    """Train biases only.

    As in `biases:keep=fc`.
    """

    name: ClassVar[str] = "biases"
    summary: ClassVar[str] = "train biases only"
    keep: Annotated[str, "a part to train whole"]
    strength: Annotated[float, "between [0] and 1"] = 0.5

    def __post_init__(self):
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength is {self.strength}, expected 0 to 1")

    def plan(self, backbone):
        return FreezePlan()


@hookimpl
def freezekit_strategies():
    return [Biases]
'''

LATE = '''
from dataclasses import dataclass
from typing import Annotated, ClassVar

from freezekit import Decision, Schedule, TrainingTime, hookimpl


@dataclass(frozen=True)
class Late(Schedule):
    """Thaw late.

    As in `late:at=3ep`.
    """

    name: ClassVar[str] = "late"
    summary: ClassVar[str] = "thaw everything late"
    at: Annotated[TrainingTime, "when all is thawed"] = TrainingTime(50, "%")

    def decide(self, backbone, progress):
        is_late = progress.has_reached(self.at)
        return Decision("full" if is_late else "head-only", reason="it is late" if is_late else "")


@hookimpl
def freezekit_schedules():
    return [Late]
'''

ODD = """
from __future__ import annotations
from dataclasses import dataclass, field
from typing import ClassVar, Literal
from freezekit import FreezePlan, Strategy, hookimpl

{body}

@hookimpl
def freezekit_strategies():
    return {returned}
"""


@dataclass(frozen=True)
class Site:
    """A folder of installed distributions that is first on `sys.path`."""

    path: Path

    def add(
        self, name: str, modules: dict[str, str], version: str = "1.2", *, folder: str = "."
    ) -> Path:
        """Install a distribution: an entry point for each module, with its name in hyphens."""
        root = self.path / folder
        info = root / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        points = "".join(f"{module.replace('_', '-')} = {module}\n" for module in modules)
        (info / "entry_points.txt").write_text(f"[freezekit]\n{points}")
        for module, source in modules.items():
            (root / f"{module}.py").write_text(textwrap.dedent(source))
        return info

    def add_good(self, name: str = "good-plugin") -> None:
        """Install a plugin without errors: strategy "biases", entry point "good"."""
        self.add(name, {"good": GOOD})

    def add_late(self) -> None:
        """Install a plugin without errors: schedule "late", entry point "slow"."""
        self.add("late-plugin", {"slow": LATE})

    def add_odd(self, body: str, returned: str = "[Given]") -> None:
        """Install a plugin "odd" with the given lines, and the given list of strategies."""
        self.add("odd-plugin", {"odd": ODD.format(body=textwrap.dedent(body), returned=returned)})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    before = set(sys.modules)
    monkeypatch.delenv("FREEZEKIT_BLOCK", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]
