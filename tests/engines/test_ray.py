"""Tasks on a real Ray: a process that is killed, and a host that dies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from freezekit.engines.ray import RayEngine
from freezekit.errors import EngineError
from tests.engines.test_local import task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from freezekit.engines.records import Outcome

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


@pytest.mark.slow
def test_a_host_that_dies_loses_nothing(tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    hosts = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    dying = hosts.add_node(num_cpus=1)
    file = tmp_path / "steps"
    engine = RayEngine(hosts.address)
    try:
        outcomes = engine.run([task("counts", "counts_slowly", str(file))])
        found: list[Outcome] = []
        reader = threading.Thread(target=lambda: found.extend(outcomes))
        reader.start()
        while not file.exists():
            time.sleep(0.1)
        (raylet,) = dying.all_processes["raylet"]
        for process in psutil.Process(raylet.process.pid).children(recursive=True):
            process.kill()  # a host that dies takes its workers along
        hosts.remove_node(dying, allow_graceful=False)
        hosts.add_node(num_cpus=1)
        reader.join(120)
    finally:
        engine.close()
        hosts.shutdown()
    (outcome,) = found
    assert (outcome.status, outcome.answer, outcome.attempts) == ("ok", 20, 2)
    assert [*map(int, file.read_text().split())] == [*range(20)]
