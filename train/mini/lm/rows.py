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

TRIES = 4  # samples that may fail to fit before a row counts as full


class Rows:
    """Batches of `rows` rows of `length` tokens, by step."""

    def __init__(
        self, options: RowOptions, seed: int, builder: PromptBuilder, seen: Sequence["Seen"] = ()
    ) -> None:
        self.options, self.seed, self.builder, self.seen = options, seed, builder, seen
        self.shares = dict(zip((*MADE, *ASKED), options.shares))
        self.labels = int(options.rows * options.length * options.labels)

    def at(self, step: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng((self.seed, step))
        small = self.options.small if step < self.options.small_steps else 0.0
        drawing = Drawing(rng, self.builder, small, self.seen)
        samples = [self._row(drawing) for _ in range(self.options.rows)]
        pad = self.builder.vocabulary.pad
        return collate(samples, self.options.length, self.labels, pad)

    def _row(self, drawing: Drawing) -> Sample:
        names, shares = list(self.shares), np.array(list(self.shares.values()))
        first = names[drawing.rng.choice(len(names), p=shares / shares.sum())]
        if first in ASKED:
            return asked_sample(drawing, first, self.options.length)
        made = np.array([self.shares[name] for name in MADE])
        samples, failed = [made_sample(drawing, first)], 0
        while failed < TRIES:
            task = list(MADE)[drawing.rng.choice(len(made), p=made / made.sum())]
            sample = made_sample(drawing, task)
            if sum(len(s.ids) for s in (*samples, sample)) <= self.options.length:
                samples.append(sample)
            else:
                failed += 1
        return together(samples)


def together(samples: list[Sample]) -> Sample:
    """Samples side by side as branches of one row."""
    branches = [np.full_like(s.ids, number) for number, s in enumerate(samples, 1)]
    parts = {
        field.name: np.concatenate([getattr(s, field.name) for s in samples])
        for field in fields(Sample)
    }
    return Sample(**parts | {"branches": np.concatenate(branches)})
