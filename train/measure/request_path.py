"""Which files a picture's request passes on its way: `python -m train.measure.request_path`.

img_gen makes one picture with emu3-mini; a profiler watches from the moment both models are loaded
until the decoder has chosen the first token, and notes every function of emu3 that is entered.
"""

import contextlib
import inspect
import io
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

from emu3.cli import img_gen
from emu3.cli.shell import command, leave
from emu3.errors import InputError
from emu3.options import option

PACKAGE = Path(img_gen.__file__).resolve().parents[1]
LOADED, CHOSEN = ("loading.py", "load_models"), ("mllm/generation/decoder.py", "choose")
NETWORK = (
    "nn/",
    "mllm/modeling_emu3.py",
    "mllm/rotary.py",
    "mllm/configuration_emu3.py",
    "runtime.py",
)


@dataclass(frozen=True)
class Options:
    """Of this command."""

    prompt: str = option("what to draw", "a red star above a blue circle")
    decoding: str = option("plain, jacobi or zipar", "plain")


class Watch:
    """A profiler that notes functions between the return of LOADED's and the one of CHOSEN's."""

    def __init__(self) -> None:
        self.on = self.over = False
        self.entered: dict[CodeType, str] = {}  # each function's file, in order of first entry

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """One event of sys.setprofile."""
        code = frame.f_code
        if self.over or event not in ("call", "return"):
            return
        file = file_of(code.co_filename)
        if file is None:
            return
        if event == "call" and self.on and is_function(code):
            self.entered.setdefault(code, file)
        elif event == "return" and (file, code.co_name) == LOADED:
            self.on = True
        elif event == "return" and self.on and (file, code.co_name) == CHOSEN:
            self.over = True

    @property
    def files(self) -> Counter[str]:
        """How many functions of each file were entered; files in order of first entry."""
        return Counter(self.entered.values())


@cache
def file_of(name: str) -> str | None:
    """A file of emu3 as seen from there; None for all others and for generated code."""
    path = Path(name)
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None


def is_function(code: CodeType) -> bool:
    """Whether code is a function with a name: no module, class body, lambda or comprehension."""
    return bool(code.co_flags & inspect.CO_OPTIMIZED) and not code.co_name.startswith("<")


def watched(options: Options) -> Watch:
    """What is entered while img_gen makes a picture.

    Raises:
        InputError: it made none; with its own words.
    """
    watch, said = Watch(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--prompt", options.prompt, "--decoding", options.decoding]
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            sys.setprofile(watch)
            try:
                code = img_gen.main([*arguments, "--device", "CPU", "--output", folder])
            finally:
                sys.setprofile(None)
    if code or not watch.over:
        raise InputError((said.getvalue().strip().splitlines() or ["no picture was made"])[-1])
    return watch


def run(options: Options) -> None:
    """Print the files in order of first entry, with totals."""
    watch = watched(options)
    network = [file for file in watch.files if file.startswith(NETWORK)]
    handling = [file for file in watch.files if file not in network]
    parts = {"handle the request": handling, "are the network and its device": network}
    for title, files in parts.items():
        print(f"{len(files)} files {title}")
        for file in files:
            print(f"  emu3/{file:<44}{watch.files[file]:3d} functions")
    print(f"{len(watch.entered)} functions entered")


build_parser, main = command(
    "train.measure.request_path", "Trace a picture's request.", Options, run
)

if __name__ == "__main__":
    leave(main())
