"""Rows of fixed length, filled with samples of every task; the batch of a step is a function of it.

Samples that share a row are branches of it: each sees itself alone, at the positions it would have
alone. A picture or clip with its questions has a row to itself.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from emu3.mllm.prompts import PromptBuilder
from train.data.samples import Batch, Sample, collate
from train.mini.lm.options import RowOptions
from train.mini.lm.tasks import ASKED, MADE, Drawing, asked_sample, made_sample

if TYPE_CHECKING:
    from train.mini.lm.seen import Seen

GROWN = 0.85  # share of the steps after which no picture is of few cells any more
CLIPS = ("clip", "extension", "ask clip")  # each thing of theirs takes most tokens, so they come
FILMED = 0.6  # evenly until this share of the steps
TRIES = 4  # samples that may fail to fit before a row counts as full


class Rows:
    """Batches of `rows` rows of `length` tokens, by step of so many `steps`."""

    def __init__(
        self,
        options: RowOptions,
        steps: int,
        seed: int,
        builder: PromptBuilder,
        seen: Sequence["Seen"] = (),
    ) -> None:
        self.options, self.steps, self.seed = options, steps, seed
        self.builder, self.seen = builder, seen
        self.shares = dict(zip((*MADE, *ASKED), options.shares))
        self.labels = int(options.rows * options.length * options.labels)

    def at(self, step: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng((self.seed, step))
        small = self.options.small * max(0.0, 1 - step / (self.steps * GROWN))
        drawing = Drawing(rng, self.builder, small, self.seen)
        filmed = min(1.0, step / (self.steps * FILMED))
        shares = {n: s * filmed if n in CLIPS else s for n, s in self.shares.items()}
        samples = [self._row(drawing, shares) for _ in range(self.options.rows)]
        pad = self.builder.vocabulary.pad
        return collate(samples, self.options.length, self.labels, pad)

    def _row(self, drawing: Drawing, shares: dict[str, float]) -> Sample:
        first = _chosen(shares, drawing.rng)
        if first in ASKED:
            return asked_sample(drawing, first, self.options.length)
        made = {name: share for name, share in shares.items() if name in MADE}
        samples, failed = [made_sample(drawing, first)], 0
        while failed < TRIES:
            sample = made_sample(drawing, _chosen(made, drawing.rng))
            if sum(len(s.ids) for s in (*samples, sample)) <= self.options.length:
                samples.append(sample)
            else:
                failed += 1
        return together(samples)


def _chosen(shares: dict[str, float], rng: np.random.Generator) -> str:
    chances = np.array(list(shares.values()))
    return list(shares)[rng.choice(len(shares), p=chances / chances.sum())]


def together(samples: list[Sample]) -> Sample:
    """Samples side by side as branches of one row."""
    branches = [np.full_like(s.ids, number) for number, s in enumerate(samples, 1)]
    parts = {
        field.name: np.concatenate([getattr(s, field.name) for s in samples])
        for field in fields(Sample)
    }
    return Sample(**parts | {"branches": np.concatenate(branches)})
