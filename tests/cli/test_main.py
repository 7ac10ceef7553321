"""The `emu3` command: which commands there are, and that it starts at once."""

import subprocess
import sys
from importlib import import_module

import pytest

from emu3 import __version__
from emu3.cli import main as program


@pytest.mark.parametrize("flags", [["--help"], ["-h"], []])
def test_help_lists_every_command_on_a_line(flags, capsys):
    assert program.main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, what in program.COMMANDS.items():
        assert any(line.split() == [name, *what.split()] for line in lines)


def test_version_is_the_packages(capsys):
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out == f"emu3 {__version__}\n"


def test_an_unknown_command_is_refused_in_one_line(capsys):
    assert program.main(["draw", "--prompt", "a star"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "emu3: error: command 'draw' is unknown; allowed: doctor, download, img_gen,"
    )


@pytest.mark.parametrize("name", program.COMMANDS)
def test_a_command_gets_the_options_after_its_name(name, monkeypatch):
    seen = []
    module = import_module(f"emu3.cli.{name}")
    monkeypatch.setattr(module, "main", lambda arguments: seen.append(arguments) or 3)
    assert program.main([name, "--seed", "1"]) == 3
    assert seen == [["--seed", "1"]]


def test_ctrl_c_while_a_command_is_imported_is_one_line(monkeypatch, capsys):
    def interrupted(name: str):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "import_module", interrupted)
    assert program.main(["vqa"]) == 130
    assert capsys.readouterr().err == "emu3: interrupted\n"


def test_the_module_form_starts_without_anything_heavy():
    code = (
        "import sys, runpy; sys.argv[1:] = ['--version']\n"
        "try: runpy.run_module('emu3', run_name='__main__')\n"
        "except SystemExit as leaving: print(leaving.code)\n"
        "print([name for name in ('mindspore', 'numpy', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [f"emu3 {__version__}", "0", "[]"]
