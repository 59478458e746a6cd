"""The engine that a command names."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from freezekit.engines.choose import ENGINES, make_engine
from freezekit.engines.local import LocalEngine
from freezekit.errors import EngineError

REFUSED = {
    "slrum": ({}, "there is no engine 'slrum', did you mean 'slurm'? expected local, ray, slurm"),
    "tune": ({}, "there is no engine 'tune'; expected local, ray, slurm"),
    "local": ({"address": "h:1"}, "the engine 'local' has no address, and 'h:1' was given"),
    "ray": ({"at_once": 2}, "the engine 'ray' decides itself how many run at once; leave out"),
    "slurm": ({}, "the engine 'slurm' needs a folder for its logs and answers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_engine_does_not_take_is_one_line(name: str) -> None:
    options, text = REFUSED[name]
    with pytest.raises(EngineError, match=re.escape(text)):
        make_engine(name, **options)


def test_one_task_on_a_host_has_all_its_cores() -> None:
    engine = make_engine("local", one_per_host=True)
    assert isinstance(engine, LocalEngine)
    assert (engine.at_once, engine.threads) == (1, None)


def test_no_torch_and_no_ray_before_an_engine_needs_them() -> None:
    code = (
        "import sys\n"
        "from freezekit.engines.choose import make_engine\n"
        "make_engine('local').close()\n"
        "assert not {'torch', 'ray', 'submitit'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_line_offers_each_engine() -> None:
    from freezekit.cli.options import engine_options

    @engine_options
    def command() -> None: ...

    (option, _) = reversed(command.__click_params__)  # type: ignore[attr-defined]  # click's own
    assert tuple(option.type.choices) == ENGINES
