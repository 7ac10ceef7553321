"""Exit codes and messages every command shares."""

import argparse
import os
import signal
import subprocess
import sys
import time

import pytest

from emu3.cli import common, flags
from emu3.errors import InputError

COMMANDS = ("img_gen", "vqa", "img_rec", "decode")


def outcome(error: BaseException) -> int:
    def run(options: argparse.Namespace) -> None:
        raise error

    return common.run_command(run, common.make_parser("test", ""), [])


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
    def run(options: argparse.Namespace) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    assert common.run_command(run, common.make_parser("test", ""), []) == 130
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_defect_of_ours_is_not_called_bad_input():
    with pytest.raises(ZeroDivisionError):
        outcome(ZeroDivisionError())


def test_an_unknown_option_is_one_line_and_code_2(capsys):
    with pytest.raises(SystemExit) as stop:
        common.run_command(lambda options: None, common.make_parser("test", ""), ["--nonsense"])
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
        (flags.positive_int, "0"),
        (flags.non_negative_int, "-1"),
        (flags.non_negative_float, "nan"),
        (flags.probability, "1.5"),
        (flags.positive_int, "many"),
    ],
)
def test_numbers_out_of_range_name_what_is_allowed(kind, text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a"):
        kind(text)
