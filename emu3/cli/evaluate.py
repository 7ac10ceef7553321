"""Evaluations: `python -m emu3.cli.evaluate geneval --prompts evaluation_metadata.jsonl`.

Pictures of GenEval, DPG-Bench and MJHQ-30K are drawn and laid out as those suites expect;
reconstruction and answers are scored here. The same command goes on where it was stopped.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from emu3.cli import shell
from emu3.evaluation import answering, drawing, rebuilding


class Subject(NamedTuple):
    """What is evaluated: in words, its options, and the evaluation."""

    what: str
    kind: type
    run: Callable[[Any], None]


SUBJECTS = {
    "geneval": Subject(
        "draw pictures for GenEval", drawing.Options, partial(drawing.run, "geneval")
    ),
    "dpg": Subject("draw pictures for DPG-Bench", drawing.Options, partial(drawing.run, "dpg")),
    "mjhq": Subject("draw pictures for MJHQ-30K", drawing.Options, partial(drawing.run, "mjhq")),
    "reconstruction": Subject(
        "rebuild pictures: PSNR, SSIM, rFID, LPIPS", rebuilding.Options, rebuilding.run
    ),
    "vqa": Subject("answer questions: accuracy", answering.Options, answering.run),
}


def build_parser() -> shell.Parser:
    """The command's options, a set for each subject."""
    parser = shell.Parser(prog="emu3.cli.evaluate", description="Evaluate a model.")
    subjects = parser.add_subparsers(required=True, metavar="WHAT")
    for name, subject in SUBJECTS.items():
        words = subject.what[0].upper() + subject.what[1:]
        own = subjects.add_parser(name, help=subject.what, description=f"{words}.")
        shell.add_options(own, subject.kind)
        own.set_defaults(kind=subject.kind, run=subject.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return shell.run_subcommand(build_parser(), arguments)


if __name__ == "__main__":
    shell.leave(main())
