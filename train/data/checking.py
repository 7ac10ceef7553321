"""What is wrong with a feature folder: each feature is read and made a sample, as in training."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from emu3.errors import InputError
from emu3.hub import CONFIG, checkpoint_folder
from emu3.mllm import Emu3Config, Emu3Tokenizer
from emu3.mllm.defaults import CheckpointDefaults
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.mllm.parts import Text
from emu3.mllm.prompts import PromptBuilder
from train.data.features import Feature, list_entries, read_feature
from train.data.inspection import marked_text
from train.data.parts import flat
from train.data.samples import Sample, feature_sample, fitted
from train.data.shards import in_shard, members

if TYPE_CHECKING:
    import numpy as np


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
    """Reads features and makes their samples, as training would.

    Args:
        model: folder or hub id of the language model to be trained.
        max_length: tokens of the longest sample; None for as many as the model has positions.
        structure: whether the ends of rows and images are supervised too.
        show: samples of each list to decode.
    """

    def __init__(self, model: str, max_length: int | None, structure: bool, show: int) -> None:
        stated = CheckpointDefaults.from_pretrained(model)
        self.builder = PromptBuilder.stated(Emu3Tokenizer.from_pretrained(model), stated)
        self.max_length = max_length or _positions(model)
        self.structure, self.show = structure, show

    def check(self, path: Path) -> Findings:
        """The findings of one list."""
        findings = Findings()
        try:
            files = list_entries(path, "DATA")
        except InputError as error:
            findings.problems.append(str(error))
            return findings
        doubled = [file for file, count in Counter(files).items() if count > 1]
        findings.problems += [f"{file} is listed more than once" for file in doubled]
        damaged = dict(_damaged_shards(files))
        findings.problems += damaged.values()
        for file in tqdm(files, desc=path.stem, unit="feature"):
            if file.parent in damaged:
                continue
            try:
                self._count(findings, file)
            except InputError as error:
                known = str(file) in str(error)
                findings.problems.append(str(error) if known else f"{file}: {error}")
        return findings

    def _count(self, findings: Findings, file: Path) -> None:
        feature = read_feature(file)
        sample = feature_sample(self.builder, feature, structure=self.structure)
        supervised = sample.labels[sample.labels != IGNORED_LABEL]
        findings.kinds[feature.kind] += 1
        findings.lengths.append(len(sample.ids))
        findings.labels.append(len(supervised))
        findings.label_ids.update(self._classes(supervised))
        findings.problems += [f"{file}: {problem}" for problem in self._text_problems(feature)]
        self._count_lost(findings, file, sample)
        if len(findings.shown) < self.show:
            findings.shown.append(f"{feature.name}: {marked_text(self.builder, sample)}")

    def _count_lost(self, findings: Findings, file: Path, sample: Sample) -> None:
        """Note what the maximum length drops of a sample."""
        kept, turns = fitted(self.builder, sample, self.max_length)
        if not turns:
            return
        findings.lost_samples += kept is None
        findings.lost_turns += 0 if kept is None else turns
        what = "left out whole" if kept is None else f"{turns} of its turns left out"
        findings.problems.append(
            f"{file}: {len(sample.ids)} tokens, more than {self.max_length}: {what}"
        )

    def _classes(self, ids: "np.ndarray") -> Counter:
        """How many of `ids` are visual, structure, eos and text."""
        vocabulary = self.builder.vocabulary
        marks = {vocabulary.eos: "eos"}
        marks |= dict.fromkeys((vocabulary.eol, vocabulary.eof, vocabulary.eoi), "structure")
        visual = vocabulary.is_visual(ids)
        counts = Counter(marks.get(int(i), "text") for i in ids[~visual])
        return counts + Counter(visual=int(visual.sum()))

    def _text_problems(self, feature: Feature) -> list[str]:
        """Empty texts, and special tokens written out, which training reads as ordinary text."""
        if feature.parts:
            parts = [part for part in flat(feature.parts) if isinstance(part, Text)]
            texts = [("text", part.text) for part in parts if part.text]  # none steers nothing
        elif feature.kind == "t2i":
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


def _damaged_shards(files: list[Path]) -> Iterator[tuple[Path, str]]:
    """Shards that cannot be read, each with what is wrong and how many features it costs."""
    inside = Counter(file.parent for file in files if in_shard(file))
    for shard, count in inside.items():
        try:
            members(shard)
        except InputError as error:
            yield shard, f"{error}; {count} features are listed in it"


def _positions(model: str) -> int:
    """The longest sequence the model of a folder or hub id takes.

    Raises:
        InputError: its folder has no config.json that says so.
    """
    folder = checkpoint_folder(model, [CONFIG])
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} has no {CONFIG}; change --model, or give --max-length")
    return Emu3Config.from_pretrained(folder).max_position_embeddings
