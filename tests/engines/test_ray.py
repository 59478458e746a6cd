"""Tasks on a real Ray; `benchmarks/sweep/killed.py` has a sweep there, and a host that dies."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from freezekit.engines.ray import RayEngine
from freezekit.errors import EngineError
from tests.engines.test_local import task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets of Ray's own


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nothing_listens_is_one_line(address: str) -> None:
    with pytest.raises(EngineError, match=f"no Ray cluster can be reached at '{address}'"):
        RayEngine(address)


def test_an_address_without_a_port_is_one_line() -> None:
    with pytest.raises(EngineError, match="the address 'head' of a Ray cluster has no port"):
        RayEngine("head")


def test_without_ray_it_is_said_what_to_install() -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "from freezekit.engines.ray import RayEngine\n"
        "RayEngine()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'freezekit[ray]'" in done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    found = RayEngine(attempts=2)
    yield found
    found.close()


@pytest.mark.slow
def test_tasks_on_ray(engine: RayEngine, tmp_path: Path) -> None:
    file = tmp_path / "steps"
    tasks = [
        task("sum", "add", [1, 2], memory_bytes=2**60),  # more than there is
        task("dies once", "dies_once", str(file)),
        task("dies", "fails", "kill"),
        task("raises", "fails", "raise"),
        task("facts", "facts"),
        task("facts again", "facts"),
    ]
    found = {one.task: one for one in engine.run(tasks)}
    assert len(found) == len(tasks)
    assert (found["sum"].status, found["sum"].answer) == ("ok", 3)
    assert (found["dies once"].answer, found["dies once"].attempts) == ([0, 1, 2], 2)
    assert found["raises"].error == "ValueError: no such thing"
    assert (found["dies"].status, found["dies"].attempts) == ("error", 2)
    assert "lost 2 times with its process or host" in str(found["dies"].error)
    facts = [found[name].answer for name in ("facts", "facts again")]
    assert facts[0]["pid"] != facts[1]["pid"]
    assert facts[0]["allocator"] == str(64 * 2**20)
    with pytest.raises(
        EngineError, match="a task needs 64 GPUs, and no host of the Ray cluster has"
    ):
        list(engine.run([task("t", "add", [1], gpus=64)]))
