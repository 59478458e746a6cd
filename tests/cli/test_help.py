"""The help of every command."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from freezekit.cli import main


@pytest.mark.parametrize("name", sorted(main.commands))
def test_it_fits_a_terminal_of_80_columns(name: str) -> None:
    shown = CliRunner().invoke(main, [name, "--help"], terminal_width=80).stdout
    assert max(map(len, shown.splitlines())) <= 80
