"""Exit codes and messages every command shares."""

import argparse
import gc
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import transformers

from emu3 import options
from emu3.cli import shell
from emu3.cli.shell import read_options
from emu3.errors import InputError
from emu3.names import USE_TORCH
from emu3.options import group, option
from tests.support import output_of

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = ("img_gen", "vqa", "img_rec", "decode")


@dataclass(frozen=True)
class Options:
    """Of a command without options."""


def main_of(run, kind: type = Options):
    """The main function of a command."""
    _, main = shell.command("emu3.cli.test", "", kind, run)
    return main


def outcome(error: BaseException) -> int:
    def run(options: Options) -> None:
        raise error

    return main_of(run)([])


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
    assert main_of(run)([]) == 130
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_defect_of_ours_is_not_called_bad_input():
    with pytest.raises(ZeroDivisionError):
        outcome(ZeroDivisionError())


def test_an_unknown_option_is_one_line_and_code_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main_of(print)(["--nonsense"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_option_is_written_whole(capsys):
    with pytest.raises(SystemExit):
        shell.command("emu3.cli.test", "", Outer, print)[1](["--seve", "x"])
    assert "unrecognized arguments: --seve x" in capsys.readouterr().err


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
        (options.guidance_number, "3e38"),
        (options.positive_int, "many"),
    ],
)
def test_numbers_out_of_range_name_what_is_allowed(kind, text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not a"):
        kind(text)


@dataclass(frozen=True)
class Inner:
    """A part of the options."""

    width: int = option("of a picture", 3)

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError("width; change --width")


@dataclass(frozen=True)
class Outer:
    """Options with a part that is a dataclass itself."""

    name: str = option("of a picture", "a", metavar="NAME")
    several: list[str] | None = option("may be given several times (default: none)")
    pair: tuple[int, ...] = option("two numbers", (1, 2), nargs=2)
    loud: bool = option("say more", False)
    size: Inner = group(width=5)


def test_options_become_a_dataclass_of_dataclasses():
    parsed = argparse.Namespace(name="a", several=None, pair=[1], loud=True, width=3, other=None)
    assert read_options(Outer, parsed) == Outer("a", None, [1], True, size=Inner(3))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Outer(size=Inner(5))),
        (["--several", "x", "--several", "y"], Outer(several=["x", "y"], size=Inner(5))),
        (["--pair", "3", "4", "--loud"], Outer(pair=[3, 4], loud=True, size=Inner(5))),
        (["--width", "7", "--name", "b"], Outer("b", size=Inner(7))),
    ],
)
def test_fields_are_options_with_their_defaults_or_the_groups(words, expected):
    parser = shell.make_parser("test", "", Outer)
    assert read_options(Outer, parser.parse_args(words)) == expected


def test_help_states_each_default_once():
    text = shell.make_parser("test", "", Outer).format_help()
    assert "of a picture (default: 5)" in text
    assert "NAME" in text
    assert text.count("(default: none)") == 1


def test_fields_left_out_are_no_options():
    @dataclass(frozen=True)
    class Some:
        size: Inner = group(leave_out=("width",))

    parser = shell.make_parser("test", "", Some)
    assert [action.dest for action in parser._actions] == ["help"]


def test_what_a_dataclass_refuses_ends_with_code_2_before_the_command_runs(capsys):
    assert main_of(lambda _: pytest.fail("ran"), Inner)(["--width", "0"]) == 2
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


PRINTS = """
import sys
from dataclasses import dataclass
from emu3.cli import shell

@dataclass(frozen=True)
class Options:
    pass

def run(options):
    {body}

_, main = shell.command("test", "", Options, run)
shell.leave(main([]))
"""


def ended(body: str, command: str, **environment: str) -> subprocess.CompletedProcess:
    """A command whose body is Python, run by a shell that knows it as $RUN."""
    run = shlex.join([sys.executable, "-c", PRINTS.format(body=body)])
    return subprocess.run(
        ["bash", "-c", command.replace("$RUN", run)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("body", ["[print(i) for i in range(99999)]", "print(1); print(2)"])
def test_a_reader_that_is_gone_ends_the_command_quietly(body):
    done = ended(f"import time; time.sleep(0.5); {body}", "$RUN | true; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("encoding", ["latin-1", "gbk", "ascii", "utf-8"])
def test_a_terminal_that_cannot_show_a_text_never_ends_the_command(encoding):
    body = r"print('caf\udce9 \u8bf7 \u2605')"
    done = ended(body, "$RUN", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"caf\udce9" in done.stdout


def test_a_working_directory_that_is_gone_is_named(tmp_path):
    command = f"mkdir {tmp_path}/a; cd {tmp_path}/a; rmdir ../a; $RUN"
    done = ended("print(1)", command)
    assert done.returncode == 2
    assert b"test: error: the working directory is gone" in done.stderr


def test_a_long_word_is_shortened_in_a_message(capsys):
    with pytest.raises(SystemExit):
        main_of(lambda _: None, Inner)(["--width", "x" * 5000])
    said = capsys.readouterr().err
    assert len(said) < 300
    assert "characters" in said


def test_a_home_folder_is_written_as_a_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert options.path_text("~/pictures") == "/home/ann/pictures"
    assert options.path_text("BAAI/Emu3-Gen") == "BAAI/Emu3-Gen"


@pytest.mark.parametrize("device", ["-1", "", "x", "1" * 400])
def test_a_device_number_on_which_the_library_aborts_is_refused(device, monkeypatch, capsys):
    monkeypatch.setenv("DEVICE_ID", device)
    assert outcome(RuntimeError("started")) == 2
    assert "DEVICE_ID" in capsys.readouterr().err


def test_help_to_a_reader_that_is_gone_ends_quietly():
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m emu3 --help | true; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
    )
    assert done.stderr == b""
    assert done.returncode in (0, 141)  # it may have been heard


def test_an_output_that_is_full_is_one_line():
    done = ended("print('x' * 99999)", "$RUN > /dev/full")
    assert (done.returncode, done.stderr) == (2, b"test: error: No space left on device\n")


def test_a_closed_output_is_no_mistake():
    assert ended("print(1)", "$RUN >&-").returncode == 0


def test_a_first_screen_shows_no_remarks_of_libraries(tiny, image_file):
    quiet = ("GLOG_v", "TRANSFORMERS_VERBOSITY", "TRANSFORMERS_NO_ADVISORY_WARNINGS")
    kept = {name: value for name, value in os.environ.items() if name not in quiet}
    words = ["--model", tiny[0], "--vq-model", tiny[1], "--image", image_file]
    done = subprocess.run(
        [sys.executable, "-m", "emu3.cli.vqa", *words, "--question", "x", "--max-new-tokens", "2"],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0
    assert "A: " in done.stdout and not done.stderr


def test_a_command_leaves_pytorch_where_it_is(tmp_path):
    if int(transformers.__version__.split(".")[0]) >= 5:
        pytest.skip("transformers 5 takes no notice of USE_TORCH")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError('PyTorch was imported')")
    about = tmp_path / "torch-2.6.0.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.6.0\n")
    imports = "from emu3.mllm import Emu3ForCausalLM, Emu3Processor"
    for body, ends in ((f"from emu3.cli import shell; shell.quiet(); {imports}", 0), (imports, 1)):
        done = subprocess.run(
            [sys.executable, "-c", body],
            env={n: v for n, v in os.environ.items() if n != USE_TORCH}
            | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == ends, done.stderr


def test_garbage_is_looked_for_again_after_importing():
    frozen = gc.get_freeze_count()
    try:
        with pytest.raises(ImportError), shell.importing():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled()
        with shell.importing():
            pass
        assert gc.isenabled() and gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
