"""Benchmarks: `python -m emu3.cli.benchmark decode [--peer torch]`, and so for each subject.

Times are medians of repeats after one that is not counted. A peer runs in a process of its own, in
turns with ours, so that both see the same machine: read the ratio, not the seconds.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from emu3.benchmarks import decode, pictures, prefill, serving, vision
from emu3.cli import shell


class Subject(NamedTuple):
    """What is measured: in words, its options, and the measurement."""

    what: str
    kind: type
    run: Callable[[Any], None]


SUBJECTS = {
    "decode": Subject(
        "decoding steps of a net with random weights", decode.DecodeOptions, decode.run_decode
    ),
    "prefill": Subject("prompts into the cache", prefill.PrefillOptions, prefill.run_prefill),
    "t2i": Subject("whole pictures by batch size", pictures.PictureOptions, pictures.run_pictures),
    "vqa": Subject("answers by batch size", pictures.AnswerOptions, pictures.run_answers),
    "vq-image": Subject("a picture to codes and back", vision.Options, vision.run_image),
    "vq-clip": Subject("a clip of 4 frames to codes and back", vision.Options, vision.run_clip),
    "serve": Subject(
        "the HTTP server, many clients against one", serving.Options, serving.run_serving
    ),
    "startup": Subject(
        "a fresh process up to its first token", pictures.StartupOptions, pictures.run_startup
    ),
}


def build_parser() -> shell.Parser:
    """The command's options, a set for each subject."""
    parser = shell.Parser(prog="emu3.cli.benchmark", description="Measure speed.")
    subjects = parser.add_subparsers(required=True, metavar="WHAT")
    for name, subject in SUBJECTS.items():
        words = {"help": subject.what, "description": f"Measure {subject.what}."}
        own = subjects.add_parser(name, **words)
        shell.add_options(own, subject.kind)
        own.set_defaults(kind=subject.kind, run=subject.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return shell.run_subcommand(build_parser(), arguments)


if __name__ == "__main__":
    shell.leave(main())
