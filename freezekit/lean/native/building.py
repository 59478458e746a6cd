"""Compiles the core once for each version of torch, and keeps it in the user's cache.

No wheel could hold it: it uses parts of torch that change from version to version, outside its
stable ABI. So it is built where it runs. Users without a compiler keep the rules in Python.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock

SOURCE = Path(__file__).parent / "source"

FLAGS = ("-std=c++20", "-O2", "-fPIC", "-shared", "-fopenmp", "-ffp-contract=off", "-w")
"""`-ffp-contract=off`: each product is rounded, as in torch's kernels."""

END = b"\nfreezekit: the end\n"
"""Ends the file of a core. To load a truncated one would kill the process."""

MAX_SECONDS = 900
"""A minute is usual. A compiler that takes longer than this hangs."""


class Built(NamedTuple):
    """What a build came to.

    Attributes:
        library: The core, or None where it could not be built.
        why_not: One line that says why there is none; empty where there is one.
    """

    library: Path | None
    why_not: str = ""


def cache_folder() -> Path:
    """Return the folder of cores: `freezekit/` in `$XDG_CACHE_HOME`, by default in `~/.cache`.

    Raises:
        RuntimeError: The user has no home.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "freezekit"


def find_built() -> Built | None:
    """Return what an earlier build with the same compiler came to, None where there was none."""
    try:
        library, failure = _paths()
        if library.exists() and _is_whole(library):
            return Built(library)
        compiler = _compiler()
        if compiler and failure.exists() and _compiler_of(failure) == compiler:
            return _failed(compiler, failure)
    except RuntimeError as error:  # of `Path.home`
        return Built(None, f"there is no folder to keep it in: {error}")
    except OSError as error:
        return Built(None, f"{library.parent} cannot be read: {error.strerror or error}")
    return None


def build() -> Built:
    """Compile the core, or wait for another process that does; say so on stderr.

    A compiler's messages go to a file beside the core, and its failure is remembered.
    """
    compiler = _compiler()
    if compiler is None:
        return Built(None, "no C++ compiler was found (g++, clang++ or $CXX)")
    library, failure = _paths()
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(library.with_suffix(".lock")):
            found = find_built()
            if found is not None:  # another process was first
                return found
            return _compile(compiler, library, failure)
    except OSError as error:
        return Built(None, f"{library.parent} cannot be written: {error.strerror or error}")


def _compile(compiler: str, library: Path, failure: Path) -> Built:
    print(
        "freezekit: compiling the native core of lean, once for this version of torch; it takes "
        "about a minute",
        file=sys.stderr,
        flush=True,
    )
    unfinished = library.with_suffix(f".{os.getpid()}")
    try:
        run = subprocess.run(
            [*compiler.split(), *_arguments(), "-o", str(unfinished)],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=MAX_SECONDS,
            check=False,
        )
        messages = run.stderr
        if run.returncode == 0 and unfinished.exists():
            with unfinished.open("ab") as file:
                file.write(END)
            unfinished.replace(library)
            return Built(library)
    except subprocess.TimeoutExpired:
        messages = f"no end after {MAX_SECONDS} s"
    except OSError as error:
        messages = f"{compiler}: {error.strerror or error}"
    finally:
        unfinished.unlink(missing_ok=True)
    failure.write_text(f"{compiler}\n\n{messages}", encoding="utf-8")
    return _failed(compiler, failure)


def _failed(compiler: str, failure: Path) -> Built:
    return Built(
        None, f"{compiler} did not compile it; {failure} says why (delete it to try again)"
    )


def _compiler() -> str | None:
    given = os.environ.get("CXX", "").strip()
    return given or shutil.which("g++") or shutil.which("clang++")


def _compiler_of(failure: Path) -> str | None:
    """Return the compiler that failed; another one may not."""
    return next(iter(failure.read_text(encoding="utf-8", errors="replace").splitlines()), None)


def _is_whole(library: Path) -> bool:
    with library.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - len(END)))
        return file.read() == END


def _arguments() -> list[str]:
    here = Path(torch.__file__).parent
    includes = (here / "include", here / "include/torch/csrc/api/include")
    return [
        *FLAGS,
        *(f"-isystem{folder}" for folder in includes),
        f"-I{sysconfig.get_path('include')}",
        str(SOURCE / "core.cpp"),
        f"-L{here / 'lib'}",
        *("-ltorch", "-ltorch_cpu", "-lc10", "-ltorch_python"),
        f"-Wl,-rpath,{here / 'lib'}",
    ]


def _paths() -> tuple[Path, Path]:
    """Return the paths of the core and of the messages of a build that failed."""
    name = cache_folder() / f"core-{_digest()}"
    return name.with_suffix(".so"), name.with_suffix(".failed")


@cache
def _digest() -> str:
    """Return a digest of all that a core is made of; nothing of it changes within a process."""
    digest = hashlib.sha256()
    for part in (torch.__version__, torch.__file__, sysconfig.get_config_var("SOABI"), *FLAGS):
        digest.update(str(part).encode())
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
