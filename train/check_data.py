"""What a feature folder holds and what is wrong with it: `python -m train.check_data DIR`.

Decodes samples with the supervised spans marked, counts lengths and labels, names over-long,
empty and corrupt features. Exit codes: 0 nothing wrong, 1 something is, 2 bad input.
"""

if not __package__:  # started by its path
    import by_path

    by_path.run_as_module(__file__)

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emu3 import bundled
from emu3.cli.shell import command, leave
from emu3.errors import InputError
from emu3.options import non_negative_int, option, path_text, positive_int
from train.data.folders import lists_of

if TYPE_CHECKING:
    from train.data.checking import Findings

SOMETHING_WRONG = 1


@dataclass(frozen=True)
class Options:
    """What is checked, for which model, and how much of it is shown."""

    folder: str = option(
        "feature folder, with list/SPLIT.json in it", kind=path_text, positional=True, metavar="DIR"
    )
    split: str | None = option(
        "the list to check (default: all lists of the folder)", metavar="NAME"
    )
    model: str = option(
        "language model to be trained, a folder or a hub id: its tokenizer makes the samples "
        "(default: emu3-mini)",
        str(bundled.MINI_LANGUAGE),
        path_text,
        metavar="PATH",
    )
    max_length: int | None = option(
        "tokens of the longest sample training takes (default: the model's positions)",
        None,
        positive_int,
    )
    structure: bool = option(
        "supervise the ends of rows and images too (default: visual tokens only)", False
    )
    show: int = option("samples of each list to decode", 2, non_negative_int)


def run(options: Options) -> int:
    """Check the lists and print what was found; returns the exit code."""
    folder = Path(options.folder)
    lists = lists_of(folder)
    if options.split is not None:
        lists = [path for path in lists if path.stem == options.split]
    if not lists:
        name = options.split or "SPLIT"
        raise InputError(f"{folder} has no list/{name}.json; change DIR or --split")
    from train.data.checking import Checker

    checker = Checker(options.model, options.max_length, options.structure, options.show)
    problems = 0
    for path in lists:
        findings = checker.check(path)
        _print(path, findings, checker.max_length)
        problems += len(findings.problems)
    print(f"{problems} problem(s)" if problems else "nothing wrong")
    return SOMETHING_WRONG if problems else 0


def _print(path: Path, findings: "Findings", max_length: int) -> None:
    from train.data.inspection import histogram

    kinds = ", ".join(f"{count} {kind}" for kind, count in findings.kinds.most_common())
    print(f"{path}: {kinds or 'no readable sample'}")
    if findings.lengths:
        print(histogram("tokens a sample", findings.lengths))
        print(histogram("labels a sample", findings.labels))
        classes = ", ".join(f"{n} {name}" for name, n in findings.label_ids.most_common())
        print(f"labels by kind: {classes}")
        print(
            f"at most {max_length} tokens drop {findings.lost_samples} sample(s) whole and "
            f"{findings.lost_turns} turn(s) of others"
        )
    for text in findings.shown:
        print(f"sample {text}")
    for problem in findings.problems:
        print(f"problem: {problem}")


build_parser, main = command(
    "train.check_data",
    "Show what a feature folder holds and find what is wrong with it. "
    "Exit codes: 0 nothing wrong, 1 something is, 2 bad input.",
    Options,
    run,
)

if __name__ == "__main__":
    leave(main())
