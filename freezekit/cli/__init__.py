"""The command line: each command a few lines over the library, each in a module of its own.

Nothing here imports torch before a command needs it.
"""

from __future__ import annotations

import errno
import sys

import click

from freezekit import __version__
from freezekit.cli.bench import bench
from freezekit.cli.compare import compare
from freezekit.cli.fit import fit
from freezekit.cli.plugins import plugins, strategies
from freezekit.cli.report import report
from freezekit.cli.show import show
from freezekit.cli.verify import verify
from freezekit.errors import FreezekitError


class _Group(click.Group):
    """Shows errors raised on purpose as one line, and leaves with the code that they carry."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except FreezekitError as error:
            if ctx.params["verbose"]:
                raise
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if ctx.params["verbose"] or error.errno not in (errno.ENOSPC, errno.EIO):
                raise
            click.echo(f"Error: cannot write the output: {error.strerror}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("\ninterrupted", err=True)
            ctx.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="freezekit")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks of errors.")
def main(verbose: bool) -> None:  # noqa: ARG001  # the group reads it
    """Freeze parts of a vision backbone properly, and measure what it saves."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: 'package.module:factory' is found from here


for command in (bench, compare, fit, report, show, verify, strategies, plugins):
    main.add_command(command)
