"""What emu3-mini is asked about clips, and how it is graded: filmed, extended, extended again."""

from typing import TYPE_CHECKING

import numpy as np

from train.mini.evaluate.asked import Asked, Record
from train.mini.words import checking
from train.mini.words.captions import clip_caption
from train.mini.world.cells import clip_kinds
from train.mini.world.motion import FRAMES, MOMENTS, extended, random_clip
from train.mini.world.reading import Reading, read

if TYPE_CHECKING:
    from train.mini.evaluate.models import Models

GRID = (MOMENTS, 8, 8)
GIVEN = 3  # moments of a clip that is extended
NEXT = 2  # moments it is to go on for
CHAINED = 16  # moments of a clip extended again and again


def clips(models: "Models", asked: Asked) -> list[Record]:
    """Clips of captions: things, start, direction and ground."""
    items = []
    for rng, split, language in asked.turns(3):
        clip = random_clip(rng, split)
        items.append((*clip_caption(clip, rng, language), clip, split))
    records = []
    for part, seeds in asked.batched(items):
        codes = models.film([text for text, *_ in part], GRID, seeds)
        for (text, facts, clip, split), made in zip(part, codes):
            verdict = checking.check_clip(_readings(models.frames(made)), facts)
            groups = {"split": split, "verb": clip.moving[0].verb}
            records.append({"prompt": text, **verdict, **groups})
    return records


def _readings(frames: np.ndarray) -> list[Reading]:
    """Every second frame read; the first of a moment and the last are among them."""
    return [read(frame) for frame in frames[1::2]]


def extension(models: "Models", asked: Asked) -> list[Record]:
    """Frames that follow GIVEN moments: where the world's rules put every thing."""
    items = [
        (random_clip(rng, split, moments=GIVEN, skip=int(rng.integers(0, 4))), split)
        for rng, split, _ in asked.turns(4)
    ]
    records = []
    for part, seeds in asked.batched(items):
        begun = [clip_kinds(clip.moments) for clip, _ in part]
        codes = models.film([""] * len(part), (GIVEN + NEXT, 8, 8), seeds, begun)
        for (clip, split), made in zip(part, codes):
            frames = models.frames(made)[GIVEN * FRAMES :]
            moments = extended(clip, NEXT).moments[GIVEN - 1 :]
            right = checking.follows([read(frame) for frame in frames], moments)
            records.append({"right": right, "split": split, "verb": clip.moving[0].verb})
    return records


def chained(models: "Models", asked: Asked) -> list[Record]:
    """Clips extended by two moments again and again: the last moments still as the rules say."""
    items = [random_clip(rng, split, moments=GIVEN) for rng, split, _ in asked.turns(5)]
    records = []
    for part, seeds in asked.batched(items):
        codes = [clip_kinds(clip.moments) for clip in part]
        while len(codes[0]) < CHAINED:
            begun = [made[-2:] for made in codes]
            more = models.film([""] * len(part), GRID, seeds, begun)
            codes = [np.concatenate([made, new[2:]]) for made, new in zip(codes, more)]
        for clip, made in zip(part, codes):
            last = extended(clip, len(made) - GIVEN).moments[-1]
            seen = read(models.frames(made[-4:])[-1])
            right = checking.follows([seen], (last, last))
            records.append({"right": right, "verb": clip.moving[0].verb})
    return records
