"""Exit codes and messages every command shares."""

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from emu3.cli import options, shell
from emu3.cli.shell import read_options
from emu3.errors import InputError
from tests.support import output_of

COMMANDS = ("img_gen", "vqa", "img_rec", "decode")


@dataclass(frozen=True)
class Options:
    """Of a command without options."""


def outcome(error: BaseException) -> int:
    def run(options: Options) -> None:
        raise error

    return shell.run_command(run, Options, shell.make_parser("test", ""), [])


def test_bad_input_is_one_line_and_code_2(capsys):
    assert outcome(InputError("ratio is\nwrong; change --ratio")) == 2
    assert capsys.readouterr().err == "emu3.cli.test: error: ratio is wrong; change --ratio\n"


def test_a_file_that_cannot_be_read_is_bad_input(capsys):
    assert outcome(FileNotFoundError(2, "No such file", "prompts.txt")) == 2
    assert "prompts.txt: No such file" in capsys.readouterr().err


def test_an_interruption_has_its_own_code(capsys):
    assert outcome(KeyboardInterrupt()) == 130
    assert "interrupted" in capsys.readouterr().err


def test_sigterm_counts_as_an_interruption(capsys):
    def run(options: Options) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    assert shell.run_command(run, Options, shell.make_parser("test", ""), []) == 130
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_defect_of_ours_is_not_called_bad_input():
    with pytest.raises(ZeroDivisionError):
        outcome(ZeroDivisionError())


def test_an_unknown_option_is_one_line_and_code_2(capsys):
    with pytest.raises(SystemExit) as stop:
        shell.run_command(print, Options, shell.make_parser("test", ""), ["--nonsense"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_at_once(command):
    start = time.perf_counter()
    line = [sys.executable, "-m", f"emu3.cli.{command}", "--help"]
    answer = subprocess.run(line, capture_output=True, text=True, check=True)
    assert "usage" in answer.stdout
    assert time.perf_counter() - start < 2.5, "importing MindSpore alone takes longer"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help_and_a_default(command):
    from importlib import import_module

    parser = import_module(f"emu3.cli.{command}").build_parser()
    for action in parser._actions:
        assert action.help, action.option_strings
        if action.option_strings and action.dest not in ("help", "prompt_file", "height", "width"):
            assert "default" in action.help, action.option_strings


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (options.positive_int, "0"),
        (options.non_negative_int, "-1"),
        (options.non_negative_float, "nan"),
        (options.probability, "1.5"),
        (options.positive_int, "many"),
    ],
)
def test_numbers_out_of_range_name_what_is_allowed(kind, text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a"):
        kind(text)


@dataclass(frozen=True)
class Inner:
    """A part of the options."""

    width: int

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError("width; change --width")


@dataclass(frozen=True)
class Outer:
    """Options with a part that is a dataclass itself."""

    name: str
    size: Inner


def test_options_become_a_dataclass_of_dataclasses():
    parsed = argparse.Namespace(name="a", width=3, other=None)
    assert read_options(Outer, parsed) == Outer("a", Inner(3))


def test_what_a_dataclass_refuses_ends_with_code_2_before_the_command_runs(capsys):
    parser = shell.make_parser("test", "")
    parser.add_argument("--width", type=int)
    refuse = shell.run_command(lambda _: pytest.fail("ran"), Inner, parser, ["--width", "0"])
    assert refuse == 2
    assert "change --width" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["img_gen", "--ratio", "16x9"],
        ["img_gen", "--decoding", "jacobi", "--zipar-window", "4"],
        ["img_gen", "--prompt-file", "nowhere.txt"],
        ["img_gen", "--dtype", "int4"],
        ["vqa", *["--image", "a"] * 2, *["--question", "b"] * 3],
        ["img_rec", "--input", "nowhere.png"],
        ["decode", "nowhere.npz"],
        ["estimate", "--height", "64"],
    ],
)
def test_cheap_mistakes_are_answered_before_mindspore_is_imported(words):
    code = (
        "import sys; from importlib import import_module\n"
        f"command = import_module('emu3.cli.{words[0]}')\n"
        f"print(command.main({words[1:]!r}), 'mindspore' in sys.modules)"
    )
    assert output_of(code) == "2 False"
