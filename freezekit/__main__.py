"""`python -m freezekit`."""

from freezekit.cli import main

main(prog_name="freezekit")
