"""One module a command: `python -m emu3.cli.<command> --help`."""
