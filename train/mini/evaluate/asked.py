"""How many items a measure takes, and the chance they are drawn from.

It is a stream that training never draws from; every second item is a combination that training
never shows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from train.mini.words import LANGUAGES
from train.mini.world.compose import BASE, FULL, Palette, random_new_scene, random_scene
from train.mini.world.scenes import Scene

STREAM = 20261128  # training seeds its generators with its --seed first, never with this number
SPLITS = ("held_out", "train")
Record = dict[str, object]  # of one item: "right", and what it may be grouped by


@dataclass(frozen=True)
class Asked:
    """What a measure is asked for.

    Attributes:
        count: items.
        seed: of the items and of what is drawn.
        batch: items made together.
        new: whether scenes show the colour or the kind that only fine-tuning teaches.
    """

    count: int
    seed: int
    batch: int
    new: bool = False

    @property
    def palette(self) -> Palette:
        """What scenes and questions are about."""
        return FULL if self.new else BASE

    def scene(
        self, rng: np.random.Generator, split: str, ratio: str, count: int | None = None
    ) -> Scene:
        """A scene at random."""
        return (random_new_scene if self.new else random_scene)(rng, split, ratio, count)

    def turns(
        self, task: int, count: int | None = None
    ) -> Iterator[tuple[np.random.Generator, str, str]]:
        """For each item a generator, its split and its language, in turn."""
        rng = np.random.default_rng([STREAM, self.seed, task])
        for index in range(self.count if count is None else count):
            yield rng, SPLITS[index % 2], list(LANGUAGES)[index // 2 % 2]

    def batched(self, items: Sequence) -> Iterator[tuple[Sequence, range]]:
        """Items in lists of `batch`, each with the seeds of what is made for them."""
        for first in range(0, len(items), self.batch):
            some = items[first : first + self.batch]
            yield some, range(self.seed + first, self.seed + first + len(some))
