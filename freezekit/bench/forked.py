"""Measuring processes that are forked from one which has imported everything; no torch here.

The imports of torch, torchvision and timm take seconds, and each row is measured in a process of
its own. A forked process is as fresh as a new one: the process that it comes from,
`freezekit.bench.fork_server`, has only imported. It starts where the imports end.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from freezekit.bench.fork_server import LONGEST

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

SERVER = "freezekit.bench.fork_server"
IMPORTED = (
    "freezekit.fit.worker",  # and with it torch, and freezekit.bench.worker
    "freezekit.staging.stages",  # what follows is imported there where it is used first
    "packaging.requirements",
)
"""What every measuring process needs. No code of the user is there, and no plugin: they may start
threads or use CUDA, and then no process could be forked."""


def libraries_of(model: str | None) -> tuple[str, ...]:
    """Return the libraries that are imported for a model, but for torch; all for None.

    torchvision is among them always: its version is recorded. A model of one's own often uses both.

    Example:
        >>> libraries_of("torchvision:resnet18"), libraries_of("my.py:build")
        (('torchvision',), ('torchvision', 'timm'))
    """
    needs_no_timm = model is not None and model.startswith("torchvision:")
    return ("torchvision",) if needs_no_timm else ("torchvision", "timm")


class Forked:
    """A process that the fork server made, to be used as a `subprocess.Popen` is.

    It is no child of this process. The system tells of its end all the same, by a descriptor. The
    fork server then tells its exit code; until it was asked, no other process gets the number.
    """

    def __init__(self, server: ForkServer, pid: int, stdin: int, stdout: int) -> None:
        """Take over two ends of pipes: that of its stdin and that of its stdout."""
        self.pid: int = pid
        self.stdin: BinaryIO = os.fdopen(stdin, "wb")
        self.stdout: BinaryIO = os.fdopen(stdout, "rb")
        self.returncode: int | None = None
        self._server = server
        self._end = os.pidfd_open(pid)
        self._waiting = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code, negative for a signal.

        Args:
            timeout: In seconds; None to wait as long as it takes.

        Raises:
            subprocess.TimeoutExpired: The process still runs.
        """
        with self._waiting:
            if self.returncode is None:
                end = select.poll()
                end.register(self._end, select.POLLIN)
                if not end.poll(None if timeout is None else timeout * 1000):
                    raise subprocess.TimeoutExpired(SERVER, timeout or 0)
                self.returncode = self._server.reap(self.pid)
                os.close(self._end)
            return self.returncode


class ForkServer:
    """The process that forks the measuring processes; leaving the context ends it.

    Where processes cannot be forked safely, there is none, and `fork` returns None: on systems
    other than Linux, where a library has started a thread, where an import fails.

    Example:
        >>> ForkServer().fork("freezekit.bench.worker", stderr=2) is None  # it was not started
        True
    """

    def __init__(self) -> None:
        """Start nothing yet; `prepare` does."""
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lock = threading.Lock()  # of the socket: an answer is for the last question

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hang_up()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()

    def prepare(self, model: str | None, environment: Mapping[str, str]) -> None:
        """Start the process, if it does not run, and let it import what a model needs.

        The system ends it with the thread that calls this first. So that thread has to outlive the
        measuring processes.

        Args:
            model: Its text; None for any.
            environment: Environment variables of the process, and so of those that it forks.
        """
        if self._process is None and _system_can():
            self._start(environment)
        answer = self._ask({"import": [*IMPORTED, *libraries_of(model)]})
        if answer is None or not answer["ready"]:
            self._hang_up()

    def _start(self, environment: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "freezekit.bench.lifeline", SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=dict(environment),
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                self._process.stdin.write(b'{"control": %d}\n' % theirs.fileno())
                self._process.stdin.flush()

    def fork(self, module: str, stderr: int) -> Forked | None:
        """Start a process on `freezekit.bench.lifeline MODULE`; None where that is not possible.

        Args:
            module: Its `main` takes the job, which is written to stdin.
            stderr: A descriptor.
        """
        if self._control is None:
            return None
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            their_stdin, stdin = os.pipe()
            stdout, their_stdout = os.pipe()
            for descriptor in (their_stdin, their_stdout):
                theirs.callback(os.close, descriptor)
            for descriptor in (stdin, stdout):
                ours.callback(os.close, descriptor)
            answer = self._ask({"fork": module}, [their_stdin, their_stdout, stderr])
            if answer is None:
                return None
            ours.pop_all()
            return Forked(self, answer["pid"], stdin, stdout)

    def reap(self, pid: int) -> int:
        """Return the exit code of a process that has ended, and give its number free."""
        answer = self._ask({"reap": pid})
        return answer["code"] if answer else -signal.SIGKILL  # it ended with the fork server

    def _ask(
        self, question: dict[str, Any], descriptors: list[int] | None = None
    ) -> dict[str, Any] | None:  # Any: JSON
        with self._lock:
            if self._control is None:
                return None
            try:
                socket.send_fds(self._control, [json.dumps(question).encode()], descriptors or [])
                answer = self._control.recv(LONGEST)
            except OSError:  # the fork server has ended
                return None
            except BaseException:  # Ctrl-C: the answer would be taken for that of the next question
                self._hang_up()
                raise
            return json.loads(answer) if answer else None

    def _hang_up(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None


def _system_can() -> bool:
    """Return whether the system tells by a descriptor that a process has ended, as Linux does."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return sys.platform == "linux"
