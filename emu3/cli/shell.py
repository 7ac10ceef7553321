"""From a command line to an exit code, once for every command of both packages.

    arguments -> Namespace -> frozen dataclass (cheap checks) -> run -> exit code

Nothing below sees a Namespace, and nothing heavy is imported before the dataclass stands.
"""

import argparse
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from emu3.errors import InputError, shown
from emu3.names import USE_TORCH

BAD_INPUT = 2
INTERRUPTED = 130
READER_GONE = 141  # as a shell says of a process that SIGPIPE ended
LONGEST_WORD = 400
METAVARS = {int: "N", float: "X"}
Options = TypeVar("Options")


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a wrong option with one line; options are written whole."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> None:
        """Print the message and exit with code 2."""
        self.exit(
            BAD_INPUT, f"{self.prog}: error: {_one_line(message)} (--help lists the options)\n"
        )


class Interrupted(KeyboardInterrupt):
    """Ctrl-C after which something was kept; the message says what and how to go on."""


def make_parser(program: str, description: str, kind: type, underscores: bool = False) -> Parser:
    """The parser of `python -m <program>` with an option for each field of the dataclass `kind`.

    Options are named as the fields, with dashes unless `underscores` are wanted.
    """
    parser = Parser(prog=program, description=description)
    add_options(parser, kind, underscores=underscores)
    return parser


def add_options(
    parser: argparse.ArgumentParser,
    kind: type,
    about: Mapping[str, Any] | None = None,
    underscores: bool = False,
    rows: Any = None,
) -> None:
    """Add an option for each field of a dataclass made of `emu3.options.option`.

    A field that is a dataclass itself becomes a group of options, `rows`; `about` is what
    `emu3.options.group` says of it.
    """
    types, about = get_type_hints(kind), about or {}
    for field in fields(kind):
        inner = types[field.name]
        if is_dataclass(inner):
            group = parser.add_argument_group(field.name.replace("_", " "))
            add_options(parser, inner, field.metadata, underscores, group)
        elif field.name in about.get("leave_out", ()):
            parser.set_defaults(**{field.name: field.default})
        else:
            default = about.get("defaults", {}).get(field.name, field.default)
            more = dict(field.metadata)
            _add_option(rows or parser, field.name, inner, default, more, underscores)


def _add_option(rows, name: str, kind: type, default: Any, about: dict, underscores: bool) -> None:
    """One option; a list may be given several times unless `nargs` says otherwise."""
    text, read, also = about.pop("help"), about.pop("kind"), about.pop("also", ())
    if about.pop("positional", False):
        rows.add_argument(name, type=read or str, help=text, **about)
        return
    (plain,) = (part for part in _alternatives(kind) if part is not NoneType)
    if get_origin(plain) in (list, tuple):
        plain = get_args(plain)[0]
        if "nargs" not in about:
            about["action"] = "append"
    if plain is bool:
        about.setdefault("action", "store_true")
    else:
        about["type"] = read or plain
        if plain in METAVARS and "choices" not in about:
            about.setdefault("metavar", METAVARS[plain])
    if default is not None and "(default" not in text:
        text += " (default: %(default)s)"
    flag = f"--{name if underscores else name.replace('_', '-')}"
    rows.add_argument(*also, flag, dest=name, default=default, help=text, **about)


def _alternatives(kind: type) -> tuple[type, ...]:
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def read_options(kind: type[Options], arguments: argparse.Namespace) -> Options:
    """The dataclass `kind` with its fields from arguments of the same names.

    A field that is a dataclass itself is filled in the same way.

    Raises:
        InputError: a `__post_init__` refuses what does not fit together.
    """
    types, values = get_type_hints(kind), {}
    for field in fields(kind):
        inner = types[field.name]
        if is_dataclass(inner):
            values[field.name] = read_options(inner, arguments)
        else:
            values[field.name] = getattr(arguments, field.name)
    return kind(**values)


def command(
    program: str,
    description: str,
    kind: type[Options],
    run: Callable[[Options], int | None],
    underscores: bool = False,
) -> tuple[Callable[[], Parser], Callable[..., int]]:
    """`build_parser` and `main` of the command `python -m <program>`.

    `main` parses arguments, runs with them as a `kind`, and turns bad input into one line; it
    returns what `run` returns, 0 for None; 2 for bad input, 130 after Ctrl-C, 141 where nobody
    reads the output any more.
    """

    def build_parser() -> Parser:
        return make_parser(program, description, kind, underscores)

    def main(arguments: Sequence[str] | None = None) -> int:
        parser = build_parser()
        return guarded(lambda: run(read_options(kind, parser.parse_args(arguments))), program)

    return build_parser, main


class Subject(NamedTuple):
    """One of a command's subjects: in words, its options, and what runs with them."""

    what: str
    kind: type
    run: Callable[[Any], int | None]


def command_of(
    program: str, description: str, verb: str, subjects: Mapping[str, Subject]
) -> tuple[Callable[[], Parser], Callable[..., int]]:
    """`build_parser` and `main`, as of `command`, of `python -m <program> SUBJECT [OPTION ...]`.

    verb: what is done with a subject, before its words where they do not say so; or "".
    """

    def build_parser() -> Parser:
        parser = Parser(prog=program, description=description)
        rows = parser.add_subparsers(required=True, metavar="WHAT")
        for name, subject in subjects.items():
            words = f"{verb} {subject.what}".strip()
            words = f"{words[0].upper()}{words[1:]}."
            own = rows.add_parser(name, help=subject.what, description=words)
            add_options(own, subject.kind)
            own.set_defaults(subject=subject)
        return parser

    def main(arguments: Sequence[str] | None = None) -> int:
        def work() -> int | None:
            parsed = build_parser().parse_args(arguments)
            return parsed.subject.run(read_options(parsed.subject.kind, parsed))

        return guarded(work, program)

    return build_parser, main


def guarded(work: Callable[[], int | None], program: str) -> int:
    """Do the work of a command; its exit code, with one line on stderr where it is not 0."""
    quiet()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal cannot show never costs the work
            stream.reconfigure(errors="backslashreplace")
    try:
        with interruptible():
            require_surroundings()
            try:
                return work() or 0
            finally:
                _flush()  # here, where a reader that is gone has an answer
    except InputError as error:
        return _complain(program, str(error), BAD_INPUT)
    except BrokenPipeError:
        _drop_output()
        return READER_GONE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        try:
            _flush()
        except OSError:  # it was the output that failed
            _drop_output()
        return _complain(program, f"{where}{error.strerror or error}", BAD_INPUT)
    except KeyboardInterrupt as interruption:
        return _complain(program, str(interruption) or "interrupted", INTERRUPTED)


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage meanwhile, and never among what is there afterwards.

    Importing MindSpore makes some million objects that all stay: looking took a tenth of its time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was:
            gc.enable()


def quiet() -> None:
    """Silence what libraries remark on first screens, and spare what no command needs.

    Their errors are still shown. transformers would import PyTorch where it finds it: two seconds.
    """
    os.environ.setdefault(USE_TORCH, "0")
    os.environ.setdefault("GLOG_v", "3")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")  # images.py has its own


def require_surroundings() -> None:
    """Refuse surroundings in which a library would fail or abort the process.

    Raises:
        InputError: the working directory was deleted, or DEVICE_ID is no number.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise InputError("the working directory is gone; change into another folder") from None
    device = os.environ.get("DEVICE_ID", "0")
    if not (device.isascii() and device.isdigit() and len(device) < 5):
        raise InputError(f"DEVICE_ID is {shown(device)}; allowed: a whole number from 0; change it")


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop_output() -> None:
    """Let nothing more be written to where it fails, as Python would do when it ends."""
    with suppress(OSError, ValueError, AttributeError):  # no real file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt too.

    Inside a compiled graph MindSpore answers Ctrl-C with a SIGTERM to its own process.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(code: int) -> None:
    """End the process; after Ctrl-C at once, for a half-imported MindSpore cannot clean up."""
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _complain(program: str, message: str, code: int) -> int:
    word = "error: " if code == BAD_INPUT else ""
    print(f"{program}: {word}{_one_line(message)}", file=sys.stderr)
    return code


def _one_line(message: str) -> str:
    """A message with what is too long to be read cut out."""
    words = message.split()
    cut = (f"{w[:60]}...({len(w)} characters)" if len(w) > LONGEST_WORD else w for w in words)
    return " ".join(cut)
