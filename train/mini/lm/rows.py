"""Rows of fixed length, filled with samples of every task; the batch of a step is a function of it.

Samples that share a row are branches of it: each sees itself alone, at the positions it would have
alone. A picture or clip with its questions has a row to itself.
"""

from dataclasses import fields

import numpy as np

from emu3.mllm.prompts import PromptBuilder
from train.data.samples import Batch, Sample, collate
from train.mini.lm.options import RowOptions
from train.mini.lm.tasks import ASKED, MADE, Drawing, asked_sample, made_sample

TRIES = 4  # samples that may fail to fit before a row counts as full


class Rows:
    """Batches of `rows` rows of `length` tokens, by step."""

    def __init__(self, options: RowOptions, seed: int, builder: PromptBuilder) -> None:
        self.options, self.seed, self.builder = options, seed, builder
        self.shares = dict(zip((*MADE, *ASKED), options.shares))
        self.labels = int(options.rows * options.length * options.labels)

    def at(self, step: int) -> tuple[Batch, np.ndarray, np.ndarray]:
        """The batch of a step, and its labels as `train.mini.step.Loss` takes them."""
        rng = np.random.default_rng((self.seed, step))
        small = self.options.small if step < self.options.small_steps else 0.0
        drawing = Drawing(rng, self.builder, small)
        samples = [self._row(drawing) for _ in range(self.options.rows)]
        pad = self.builder.vocabulary.pad
        batch = collate(samples, self.options.length, self.labels, pad)
        return batch, batch.labels[:, None], np.ones((self.labels, 1), np.float32)

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
