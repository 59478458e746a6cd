"""From `plugins new` to a row in `bench`: how long does each command of the five minutes take?

    python benchmarks/authors/first_row.py [-o benchmarks/results/authors-first-row.json]

The commands of `plugins/README.md`, as they stand there, in an empty folder and once each. The
environment sees the packages installed here (torch, timm, freezekit), so that `pip install -e .`
installs the plugin alone; how long torch takes to install is not counted.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]


@click.command(help=__doc__)
@click.option("-o", "--output", default="benchmarks/results/authors-first-row.json")
def main(output: str) -> None:
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "env"
        venv.create(environment, with_pip=True)
        site = sysconfig.get_path("purelib", vars={"base": str(environment)})
        # a .pth line, not --system-site-packages: this Python may be in an environment itself
        (Path(site) / "here.pth").write_text(
            f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        )
        scripts = environment / "bin"
        (scripts / "freezekit").write_text(
            f"#!{scripts / 'python'}\nfrom freezekit.cli import main\nmain()\n"
        )
        (scripts / "freezekit").chmod(0o755)
        here = Path(folder)
        search = os.pathsep.join((str(scripts), os.environ["PATH"]))
        for command in _commands():
            if command.startswith("cd "):
                here /= command[3:]
                continue
            started = time.perf_counter()
            ran = "python -m pytest" if command == "pytest" else command
            variables = {**os.environ, "PATH": search}
            subprocess.run(ran, shell=True, check=True, cwd=here, env=variables)
            seconds[command] = time.perf_counter() - started
    for command, took in seconds.items():
        click.echo(f"{took:7.2f} s  {command}")
    until_row = list(seconds.values())[: 1 + list(seconds).index(_bench(seconds))]
    click.echo(f"{sum(until_row):7.2f} s  from `plugins new` to the row in `bench`")
    load = Path("/proc/loadavg").read_text().split()[0]
    data = {
        "python": sys.version,
        "cores": os.cpu_count(),
        "load_after": load,
        "seconds": seconds,
        "seconds_to_row": sum(until_row),
    }
    Path(output).write_text(json.dumps(data, indent=1) + "\n")


def _commands() -> list[str]:
    page = (ROOT / "plugins" / "README.md").read_text()
    (block,) = re.findall(r"^```\n(freezekit plugins new.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [line.split("#")[0].strip() for line in block.splitlines()]


def _bench(commands: dict[str, float]) -> str:
    return next(command for command in commands if command.startswith("freezekit bench"))


if __name__ == "__main__":
    main()
