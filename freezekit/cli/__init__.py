"""The command line: each command a few lines over the library, each in a module of its own.

Nothing here imports torch before a command needs it.
"""

from __future__ import annotations

import errno
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from freezekit import __version__
from freezekit.cli import streams
from freezekit.cli.bench import bench
from freezekit.cli.compare import compare
from freezekit.cli.extract import extract
from freezekit.cli.fit import fit
from freezekit.cli.named import schedules, strategies
from freezekit.cli.plugins import plugins
from freezekit.cli.report import report
from freezekit.cli.show import show
from freezekit.cli.sweep import sweep
from freezekit.cli.train import train
from freezekit.cli.verify import verify
from freezekit.errors import ExitCode, FreezekitError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _leaving_when_cut_off() -> Iterator[None]:
    """Write all output; where its reader has ended, exit quietly with `READER_GONE`.

    A Unix tool that SIGPIPE ends exits with the same code, 141.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        streams.drop_stdout()
        sys.exit(ExitCode.READER_GONE)  # click would leave with 1, which is for gates
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich leaves so, with 1
            sys.exit(ExitCode.READER_GONE)
        raise


class _Group(click.Group):
    """Shows errors raised on purpose as one line, and leaves with the code that they carry."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # Any: click's signature
        """Run the command line; that messages cannot be written does not change its code."""
        streams.forgive_stderr()
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # Any: click's signature
        """Read the arguments; --help and --version end here."""
        with _leaving_when_cut_off():
            return super().make_context(*args, **kwargs)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        """List the exit codes under the commands."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), code.meaning) for code in ExitCode])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            with _leaving_when_cut_off():
                return super().invoke(ctx)
        except FreezekitError as error:
            if ctx.params["verbose"]:
                raise
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if ctx.params["verbose"] or error.errno not in (errno.ENOSPC, errno.EIO):
                raise
            streams.drop_stdout()
            click.echo(f"Error: cannot write the output: {error.strerror}", err=True)
            ctx.exit(ExitCode.USAGE)
        except KeyboardInterrupt:
            click.echo("\ninterrupted", err=True)
            ctx.exit(ExitCode.INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="freezekit")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks of errors.")
def main(verbose: bool) -> None:  # the group reads it
    """Freeze parts of a vision backbone properly, and measure what it saves."""


for command in (
    bench,
    compare,
    extract,
    fit,
    sweep,
    report,
    show,
    train,
    verify,
    strategies,
    schedules,
    plugins,
):
    main.add_command(command)
