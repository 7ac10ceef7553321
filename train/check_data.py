"""What a feature folder holds and what is wrong with it: `python -m train.check_data DIR`.

Decodes samples with the supervised spans marked, counts lengths and labels, names over-long,
empty and corrupt features. Exit codes: 0 nothing wrong, 1 something is, 2 bad input.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from emu3.cli import common, flags
from emu3.errors import InputError

SOMETHING_WRONG = 1


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = common.Parser(
        prog="train.check_data",
        description="Show what a feature folder holds and find what is wrong with it. "
        "Exit codes: 0 nothing wrong, 1 something is, 2 bad input.",
    )
    add = parser.add_argument
    add("folder", metavar="DIR", help="feature folder, with list/SPLIT.json in it")
    add("--split", metavar="NAME", help="the list to check (default: all lists of the folder)")
    add(
        "--model",
        default=str(common.MINI_LANGUAGE),
        metavar="PATH",
        help="language model to be trained, a folder or a hub id: its tokenizer makes the samples "
        "(default: emu3-mini)",
    )
    add(
        "--max-length",
        type=flags.positive_int,
        metavar="N",
        help="tokens of the longest sample training takes (default: the model's positions)",
    )
    add(
        "--structure",
        action="store_true",
        help="supervise the ends of rows and images too (default: visual tokens only)",
    )
    add(
        "--show",
        type=flags.non_negative_int,
        default=2,
        metavar="N",
        help="samples of each list to decode (default: %(default)s)",
    )
    return parser


@dataclass
class Findings:
    """What the samples of one list add up to."""

    kinds: Counter = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    label_ids: Counter = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lost_samples: int = 0
    lost_turns: int = 0


class Checker:
    """Reads features and makes their samples, as training would."""

    def __init__(self, options: argparse.Namespace) -> None:
        from emu3.mllm import Emu3Tokenizer
        from emu3.mllm.defaults import CheckpointDefaults
        from emu3.mllm.prompts import PromptBuilder

        template = CheckpointDefaults.from_pretrained(options.model).chat_template
        self.builder = PromptBuilder(Emu3Tokenizer.from_pretrained(options.model), template)
        self.options = options
        self.max_length = options.max_length or _positions(options.model)

    def check(self, path: Path) -> Findings:
        """The findings of one list."""
        from tqdm import tqdm

        from train.data.features import list_entries

        findings = Findings()
        try:
            files = list_entries(path, "DATA")
        except InputError as error:
            findings.problems.append(str(error))
            return findings
        doubled = [file for file, count in Counter(files).items() if count > 1]
        findings.problems += [f"{file} is listed more than once" for file in doubled]
        for file in tqdm(files, desc=path.stem, unit="feature"):
            try:
                self._count(findings, file)
            except InputError as error:
                findings.problems.append(f"{file}: {error}")
        return findings

    def _count(self, findings: Findings, file: Path) -> None:
        from emu3.mllm.modeling_emu3 import IGNORED_LABEL
        from train.data.features import read_feature
        from train.data.inspection import marked_text
        from train.data.samples import feature_sample, fitted

        feature = read_feature(file)
        sample = feature_sample(self.builder, feature, structure=self.options.structure)
        supervised = sample.labels[sample.labels != IGNORED_LABEL]
        findings.kinds[feature.kind] += 1
        findings.lengths.append(len(sample.ids))
        findings.labels.append(len(supervised))
        findings.label_ids.update(self._classes(supervised))
        findings.problems += [f"{file}: {problem}" for problem in self._text_problems(feature)]
        self._count_lost(findings, file, *fitted(self.builder, sample, self.max_length), sample)
        if len(findings.shown) < self.options.show:
            findings.shown.append(f"{feature.name}: {marked_text(self.builder, sample)}")

    def _count_lost(self, findings: Findings, file: Path, kept, turns: int, sample) -> None:
        """Note what the maximum length drops of a sample."""
        if not turns:
            return
        findings.lost_samples += kept is None
        findings.lost_turns += 0 if kept is None else turns
        what = "left out whole" if kept is None else f"{turns} of its turns left out"
        findings.problems.append(
            f"{file}: {len(sample.ids)} tokens, more than {self.max_length}: {what}"
        )

    def _classes(self, ids) -> Counter:
        """How many of `ids` are visual, structure, eos and text."""
        vocabulary = self.builder.vocabulary
        marks = {vocabulary.eos: "eos"}
        marks |= dict.fromkeys((vocabulary.eol, vocabulary.eof, vocabulary.eoi), "structure")
        visual = vocabulary.is_visual(ids)
        counts = Counter(marks.get(int(i), "text") for i in ids[~visual])
        return counts + Counter(visual=int(visual.sum()))

    def _text_problems(self, feature) -> list[str]:
        """Empty texts, and special tokens written out, which training reads as ordinary text."""
        if feature.kind == "t2i":
            texts = [("caption", text) for text in (feature.captions or [feature.texts])]
        else:
            turns = feature.all_turns
            texts = [pair for turn in turns for pair in zip(("question", "response"), turn)]
        problems = [f"empty {what}" for what, text in texts if not text.strip()]
        special = self.builder.tokenizer.special_ids
        for what, text in texts:
            written = [p for p in self.builder.tokenizer.split_specials(text) if p in special]
            problems += [f"{what} spells out {token}" for token in dict.fromkeys(written)]
        return problems


def _positions(model: str) -> int:
    """The longest sequence the model of a folder or hub id takes.

    Raises:
        InputError: its folder has no config.json that says so.
    """
    from emu3.hub import checkpoint_folder
    from emu3.mllm import Emu3Config

    folder = checkpoint_folder(model, ["config.json"])
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder} has no config.json; change --model, or give --max-length")
    return Emu3Config.from_pretrained(folder).max_position_embeddings


def run(options: argparse.Namespace) -> int:
    """Check the lists and print what was found; returns the exit code."""
    folder = Path(options.folder)
    lists = sorted((folder / "list").glob("*.json"))
    if options.split is not None:
        lists = [path for path in lists if path.stem == options.split]
    if not lists:
        name = options.split or "SPLIT"
        raise InputError(f"{folder} has no list/{name}.json; change DIR or --split")
    checker, problems = Checker(options), 0
    for path in lists:
        findings = checker.check(path)
        _print(path, findings, checker.max_length)
        problems += len(findings.problems)
    print(f"{problems} problem(s)" if problems else "nothing wrong")
    return SOMETHING_WRONG if problems else 0


def _print(path: Path, findings: Findings, max_length: int) -> None:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.run_command(run, build_parser(), arguments)


if __name__ == "__main__":
    common.leave(main())
