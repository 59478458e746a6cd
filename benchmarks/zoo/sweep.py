"""One sweep over many models: a file of JSON lines that Ctrl-C never loses."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.zoo.pool import ROOT, answers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RESULTS = ROOT / "benchmarks" / "results"

Line = dict[str, Any]  # Any: JSON

CODE = ("freezekit", "plugins/freezekit_strategies", "benchmarks/zoo", "benchmarks/lean")
"""Where the code is that results depend on, unless a sweep says less."""

_VERSIONS = """
import json
from importlib.metadata import distributions
wanted = {"torch", "torchvision", "timm", "lightning", "fastai"}
found = {d.name: d.version for d in distributions()}
print(json.dumps({name: found[name] for name in sorted(wanted & found.keys())}))
"""


def sweep(
    task: str,
    jobs: Sequence[Line],
    *,
    output: Path,
    workers: int = 2,
    fresh: bool = False,
    limit: float = 300.0,
    python: str = sys.executable,
    code: Sequence[str] = CODE,
    restart: bool = False,
) -> list[Line]:
    """Do the jobs whose answers are not in the file, appending each as it comes; return all.

    Args:
        task: One of `worker.TASKS`.
        jobs: Known, as their answers are, by their `key`.
        output: JSON lines: facts of the machine and the code first, then an answer a line.
        workers: Processes.
        fresh: Begin anew.
        limit: Seconds for one job.
        python: The interpreter of the workers; its packages are on record.
        code: Files and folders that the answers depend on.
        restart: Begin anew if the file was made with other code or versions, instead of refusing.
    """
    facts = environment(python, code)
    if fresh:
        output.unlink(missing_ok=True)
    before, done = read(output)
    other = {k: before.get(k) for k in facts["of"]} != {k: facts[k] for k in facts["of"]}
    if before and other and restart:
        before, done = {}, []
    elif before and other:
        sys.exit(f"{output} was made with other code or versions; --fresh begins it anew")
    missing = [job for job in jobs if key(job) not in {key(line) for line in done}]
    output.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(line) for line in ([before or facts, *done])]
    output.write_text("\n".join(lines) + "\n", encoding="utf-8")  # without a torn last line
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<44}"), BarColumn(), MofNCompleteColumn())
    started = time.monotonic()
    with (
        Progress(*columns, TimeRemainingColumn(), console=console) as progress,
        output.open("a", encoding="utf-8") as file,
    ):
        bar = progress.add_task(task, total=len(jobs), completed=len(jobs) - len(missing))
        try:
            for answer in answers(task, missing, workers=workers, limit=limit, python=python):
                file.write(json.dumps(answer) + "\n")
                file.flush()
                done.append(answer)
                progress.update(bar, advance=1, description=f"{task} {answer['name'][:34]}")
        except KeyboardInterrupt:
            progress.stop()
            console.print(f"{len(done)} of {len(jobs)} kept; the same command goes on from there")
            sys.exit(130)
    took = time.monotonic() - started
    console.print(f"{task}: {len(missing)} done in {took:.0f} s, {len(done)} in {output}")
    if missing:
        _sort(output, before or facts, done, took)
    return done


def key(line: Line) -> tuple[str, ...]:
    """Return what a job and its answer have in common.

    Example:
        >>> key({"library": "timm", "name": "vgg11", "peer": "lightning", "status": "done"})
        ('timm', 'vgg11', 'lightning')
    """
    return tuple(line[k] for k in ("library", "name", "strategy", "peer") if k in line)


def read(path: Path) -> tuple[Line, list[Line]]:
    """Return the facts and the answers in a file; a torn last line is left out.

    Example:
        >>> from pathlib import Path
        >>> read(Path("there/is/none"))
        ({}, [])
    """
    lines: list[Line] = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return (lines[0], lines[1:]) if lines else ({}, [])


def environment(python: str = sys.executable, code: Sequence[str] = CODE) -> Line:
    """Return the facts that a result depends on; "of" names those that must agree to go on.

    Args:
        python: The interpreter whose packages do the work.
        code: Files and folders that the answers depend on.
    """
    versions = json.loads(subprocess.check_output([python, "-c", _VERSIONS], text=True))
    return {
        **versions,
        "code": _code(code),
        "of": [*versions, "code"],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _code(paths: Sequence[str]) -> str:
    """Return a digest of the code that the results come from; no comments or docstrings."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted((ROOT / path).rglob("*.py")) if (ROOT / path).is_dir() else [ROOT / path]
        for file in files:
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                    node.body = [part for part in node.body if not _is_text(part)]
            digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _sort(output: Path, facts: Line, done: list[Line], took: float) -> None:
    """Write the file anew in the order of names, so that two sweeps can be compared."""
    facts["seconds"] = round(facts.get("seconds", 0.0) + took, 1)
    lines = [json.dumps(line) for line in [facts, *sorted(done, key=key)]]
    fresh = output.with_suffix(".part")
    fresh.write_text("\n".join(lines) + "\n", encoding="utf-8")
    fresh.replace(output)
