"""What a round asks for: prompts of training scenes, and the judge of what is made for each.

Codes are (h, w) of pictures, (t, h, w) of clips. No combination that is held out is asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from emu3.mllm.parts import Coded, Message, Text
from train.data.parts import Given, Said, Wanted
from train.mini.evaluate.measures import edited
from train.mini.lm.tasks import SKIPS, Drawing
from train.mini.words import checking
from train.mini.words.captions import caption, clip_caption
from train.mini.words.edits import Edit, random_edit
from train.mini.world.cells import clip_kinds
from train.mini.world.compose import random_scene
from train.mini.world.motion import extended, random_clip
from train.mini.world.naming import read_names
from train.mini.world.reading import Reading
from train.mini.world.scenes import held_out

if TYPE_CHECKING:
    from train.mini.evaluate.models import Models

GIVEN, NEXT = 3, 2  # moments of a clip that is extended, and those it is to go on for


@dataclass(frozen=True)
class Trial:
    """One thing that is asked for.

    `shown` are the codes that stand before what is made, `shows` tells of readings of what is made,
    one a picture or moment, whether it is right.
    """

    text: str
    size: tuple[int, ...]
    shows: Callable[[Sequence[Reading]], bool]
    shown: np.ndarray | None = None


def picture(drawing: Drawing, ratio: str) -> Trial:
    """A picture of a caption."""
    count = int(drawing.rng.integers(1, 4))
    scene = random_scene(drawing.rng, ratio=ratio, count=count)
    text, facts = caption(scene, drawing.rng, drawing.language)
    size = (scene.rows, scene.cols)
    return Trial(text, size, lambda seen: checking.check(seen[0], facts)["right"])


def edit(drawing: Drawing, ratio: str) -> Trial:
    """A picture that is to be changed."""
    while True:
        scene, codes = drawing.shown()
        made = random_edit(scene, drawing.rng, drawing.language)
        if made is not None and not held_out(made.after) and codes.shape == (8, 8):
            return Trial(made.text, codes.shape, partial(_is_edited, made), codes)


def _is_edited(edit: Edit, seen: Sequence[Reading]) -> bool:
    return edited(seen[0], edit)


def clip(drawing: Drawing, ratio: str) -> Trial:
    """A clip of a caption."""
    shown = random_clip(drawing.rng)
    text, facts = clip_caption(shown, drawing.rng, drawing.language)
    codes = clip_kinds(shown.moments)
    return Trial(text, codes.shape, lambda seen: checking.check_clip(seen, facts)["right"])


def extension(drawing: Drawing, ratio: str) -> Trial:
    """A clip that is to go on."""
    begun = random_clip(drawing.rng, moments=GIVEN, skip=int(drawing.rng.choice(SKIPS)))
    moments = extended(begun, NEXT).moments[GIVEN:]

    def follows(seen: Sequence[Reading]) -> bool:
        later = zip(seen[GIVEN:], moments)
        return all(checking.follows([one], (moment, moment)) for one, moment in later)

    codes = clip_kinds(begun.moments)
    return Trial("", (GIVEN + NEXT, *codes.shape[1:]), follows, codes)


TRIALS = {"picture": picture, "edit": edit, "clip": clip, "extension": extension}


def candidates(
    models: "Models", task: str, trials: Sequence[Trial], seeds: Sequence[int]
) -> list[np.ndarray]:
    """Codes that the model makes, one for each trial, which are of one task and size."""
    texts, shown = [trial.text for trial in trials], [trial.shown for trial in trials]
    if task == "edit":
        return models.edit(shown, texts, seeds)
    if task == "picture":
        return models.draw(texts, [trial.size for trial in trials], seeds)
    return models.film(texts, trials[0].size, seeds, shown if task == "extension" else None)


def said(task: str, trial: Trial, codes: np.ndarray) -> list[Said]:
    """The sample in which these codes were made for a trial."""
    made = Coded(codes)
    if task == "edit":
        user = Message("user", (Coded(trial.shown), Text(trial.text)))
        return [user, Message("assistant", (made,))]
    return [Given(Text(trial.text)), Wanted(made, given=GIVEN if task == "extension" else 0)]


def is_right(trial: Trial, codes: np.ndarray) -> bool:
    """Whether codes show what a trial asks for."""
    pictures = codes if codes.ndim == 3 else codes[None]
    return bool(trial.shows([read_names(one) for one in pictures]))
