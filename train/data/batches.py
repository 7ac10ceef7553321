"""Batches of feature folders as a function of the step alone, cut for each process.

Any number of processes sees the same samples in the same order, and a resumed run goes on with
the very next one; nothing but the step number has to be remembered.
"""

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from mindspore import Tensor

from emu3.errors import InputError
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.mllm.prompts import PromptBuilder
from emu3.parallel.mesh import Mesh
from train.data.features import list_files, read_feature
from train.data.folders import check_one_encoding
from train.data.order import PassOrder
from train.data.samples import Sample, collate, feature_sample, fitted

FEWEST_LABELS = 64  # with N a power of two from here on, a run meets few shapes
KEPT_FEATURES = 2**16  # files a source holds in memory: epochs after the first read no disk


@dataclass(frozen=True)
class DataSettings:
    """How samples are chosen and laid out; the fields are options of the trainer."""

    rows: int  # a process's rows of one pass
    max_length: int
    null_prompt_prob: float = 0.05
    supervise_structure: bool = False
    pad_to_multiple: int = 64
    seed: int = 42


@dataclass(frozen=True)
class LocalBatch:
    """What one process computes of a batch.

    ids, positions (B, T) are its chunk of the sequences, branches (B, S) the whole of them;
    places (N,) are indices b * T + t of the tokens before the labels (N,); N is a power of two:
    every shape is compiled to a graph with memory of its own.
    """

    ids: np.ndarray
    positions: np.ndarray
    branches: np.ndarray
    places: np.ndarray
    labels: np.ndarray

    @property
    def label_count(self) -> int:
        """Number of labels that count."""
        return int((self.labels != IGNORED_LABEL).sum())

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The arrays in the order of the fields, as `SummedLoss` and `Collect` take them."""
        return tuple(Tensor(getattr(self, field.name)) for field in fields(self))


class Source:
    """The samples of one list, in an order that differs from epoch to epoch.

    `text` is a list file, or a folder with list/`split`.json; ":W" at its end weighs it.

    Raises:
        InputError: no such list, or a weight that is not above 0.
    """

    def __init__(self, text: str, split: str, flag: str) -> None:
        path, _, weight = text.rpartition(":")
        self.weight = 1.0
        if path and _is_number(weight):
            self.weight = float(weight)
        else:
            path = text
        if not 0 < self.weight < math.inf:
            raise InputError(
                f"weight {weight[:20]} of {path}; allowed: above 0 and finite; change {flag}"
            )
        where = Path(path)
        path = where / "list" / f"{split}.json" if where.is_dir() else where
        self.list, self.files, self.flag = path, list_files(path, flag), flag
        self.read = lru_cache(KEPT_FEATURES)(read_feature)

    def path(self, ordinal: int, seed: tuple[int, ...]) -> Path:
        """The file at place `ordinal` of the endless order that `seed` fixes."""
        epoch, place = divmod(ordinal, len(self.files))
        return self.files[self._order(epoch, seed)[place]]

    @lru_cache(4)  # noqa: B019 - sources live as long as the process
    def _order(self, epoch: int, seed: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng((*seed, epoch)).permutation(len(self.files))


class Data:
    """The batches of a run over one or several sources.

    Args:
        sources: what to read; each pass draws its rows from one of them, by weight.
        passes: forward passes of the run; with accumulation, several a step.
        mesh: processes that share the work.
        once: each sample comes once; rows beyond the last one are empty.

    Raises:
        InputError: the sources' codes are of two vision tokenizers.
    """

    def __init__(
        self,
        sources: list[Source],
        builder: PromptBuilder,
        settings: DataSettings,
        passes: int,
        mesh: Mesh,
        once: bool = False,
    ) -> None:
        check_one_encoding([source.list for source in sources], sources[0].flag)
        self.once = once
        self.sources, self.builder, self.settings, self.mesh = sources, builder, settings, mesh
        self.passes = passes
        self.order = PassOrder([source.weight for source in sources], (settings.seed, 1))

    def batch(self, index: int) -> LocalBatch:
        """This process's part of the pass `index`."""
        settings = self.settings
        rows = settings.rows * self.mesh.data_size
        number, ordinal = self.order(index)
        first = ordinal * rows + settings.rows * self.mesh.data_index
        samples = [self.sample(number, first + row)[0] for row in range(settings.rows)]
        return localise(samples, settings, self.builder.vocabulary.pad, self.mesh)

    def sample(self, number: int, ordinal: int) -> tuple[Sample | None, int]:
        """Sample `ordinal` of source `number`, and the turns left out, as `fitted` gives them.

        Raises:
            InputError: its file cannot be used; names it.
        """
        source, settings = self.sources[number], self.settings
        if self.once and ordinal >= len(source.files):
            return None, 0
        seed = (settings.seed, 2, number)
        path = source.path(ordinal, seed)
        try:
            sample = feature_sample(
                self.builder,
                source.read(path),
                np.random.default_rng((*seed, 3, ordinal)),
                settings.null_prompt_prob,
                settings.supervise_structure,
            )
        except InputError as error:
            raise InputError(f"{path}: {error}; change {source.flag}") from None
        return fitted(self.builder, sample, settings.max_length)


def padded_length(length: int, settings: DataSettings, mesh: Mesh) -> int:
    """Tokens of a row of `length` with its padding."""
    multiple = math.lcm(settings.pad_to_multiple, mesh.sequence.size)
    return -(-length // multiple) * multiple


def localise(
    samples: list[Sample | None], settings: DataSettings, pad: int, mesh: Mesh
) -> LocalBatch:
    """Collate samples (None = an empty row) and cut out this process's chunk of the sequences.

    Lengths grow to a multiple that the shards divide; nothing is cut off. A row of 6 tokens in 2
    shards, label L wanted from the token before it:

        row     t0 t1 t2 | t3 t4 t5      ids, positions: cut at the bar
        labels      L    |    L          labels: with the shard of the token before
        shard   0  0  0  | 1  1  1       branches: whole in both, each token sees all before it
    """
    shards = mesh.sequence.size
    empty = np.zeros(0, np.int32)
    samples = [Sample(empty, empty, empty, empty) if s is None else s for s in samples]
    length = padded_length(max(1, *(len(sample.ids) for sample in samples)), settings, mesh)
    counts = [(sample.labels != IGNORED_LABEL).sum() for sample in samples]
    whole = collate(samples, length, int(sum(counts)), pad)
    chunk = length // shards
    row, column = np.divmod(whole.places, length)
    owner = column // chunk
    mine = owner == mesh.sequence.index
    # Shards compute together: all take as many places as the one with the most labels.
    largest = max(FEWEST_LABELS, *np.bincount(owner, minlength=shards))
    places = np.zeros(1 << int(largest - 1).bit_length(), np.int32)
    labels = np.full(len(places), IGNORED_LABEL, np.int32)
    places[: mine.sum()] = (row * chunk + column % chunk)[mine]
    labels[: mine.sum()] = whole.labels[mine]
    own = np.s_[:, mesh.sequence.index * chunk : (mesh.sequence.index + 1) * chunk]
    return LocalBatch(
        np.ascontiguousarray(whole.ids[own]),
        np.ascontiguousarray(whole.positions[own]),
        whole.branches,
        places,
        labels,
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
