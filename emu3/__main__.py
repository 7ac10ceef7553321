"""`python -m emu3` is the `emu3` command."""

from emu3.cli.main import run

run()
