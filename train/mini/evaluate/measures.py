"""What emu3-mini is asked in each task, and how its answers are graded.

A measure returns records, one an item, each with "right" and what it may be grouped by.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from emu3.metrics import psnr
from train.mini.evaluate.asked import STREAM, Asked, Record
from train.mini.evaluate.clips import chained, clips, extension
from train.mini.evaluate.drawings import drawing
from train.mini.words import LANGUAGES, checking
from train.mini.words.captions import caption
from train.mini.words.edits import random_edit
from train.mini.words.facts import ThingFact
from train.mini.words.questions import CLIP_KINDS, PICTURE_KINDS, clip_questions, questions
from train.mini.world.cells import cell_kinds
from train.mini.world.compose import random_scene
from train.mini.world.draw import draw_array
from train.mini.world.motion import frames_of, random_clip
from train.mini.world.reading import Reading, read
from train.mini.world.scenes import RATIOS

if TYPE_CHECKING:
    from train.mini.evaluate.models import Models

LAYOUTS = 20  # seeds of one prompt
SQUARE = RATIOS["1:1"]


def prompts(asked: Asked) -> list[tuple]:
    """Captions to draw: text, facts, ratio and split of each."""
    ratios = list(RATIOS) if asked.count >= 20 else ["1:1"]
    items = []
    for index, (rng, split, language) in enumerate(asked.turns(0)):
        ratio = "1:1" if index % 10 < 6 else ratios[index // 10 % len(ratios)]
        scene = asked.scene(rng, split, ratio, 1 + index // 4 % 3)
        items.append((*caption(scene, rng, language), ratio, split))
    return items


def t2i(models: "Models", asked: Asked) -> list[Record]:
    """Pictures of prompts: everything that is stated must be right."""
    items, records = prompts(asked), []
    for ratio in dict.fromkeys(item[2] for item in items):
        for part, seeds in asked.batched([item for item in items if item[2] == ratio]):
            codes = models.draw([text for text, *_ in part], [RATIOS[ratio]] * len(part), seeds)
            for (text, facts, _, split), made in zip(part, codes):
                verdict = checking.check(read(models.picture(made)), facts)
                groups = {"split": split, "number": facts.count, "ratio": ratio}
                records.append({"prompt": text, **verdict, **groups})
    return records


def composition(models: "Models", asked: Asked) -> list[Record]:
    """Single things whose place nobody stated: right where none is in the outer ring of cells."""
    items = []
    for rng, split, language in asked.turns(1, 10 * asked.count):
        text, facts = caption(random_scene(rng, split, "1:1", 1), rng, language)
        if not (facts.things[0].row or facts.things[0].col):
            items.append(text)
    records = []
    for part, seeds in asked.batched(items[: asked.count]):
        for text, made in zip(part, models.draw(part, [SQUARE] * len(part), seeds)):
            records.append({"prompt": text, **_balance(read(models.picture(made)))})
    return records


def _balance(reading: Reading) -> Record:
    """Whether the middle of a thing is outside the outer ring, and how far all are from the middle.

    The distance is a share of the side, things count by their area.
    """
    things = reading.things
    if not things:
        return {"right": False, "distance": 1.0}
    ring = any(not all(1 <= c <= 7 for c in thing.centre) for thing in things)
    area = np.array([thing.side**2 for thing in things])
    middle = (np.array([thing.centre for thing in things]) * area[:, None]).sum(0) / area.sum()
    return {"right": not ring, "distance": float(np.hypot(*(middle / 8 - 0.5)))}


def variety(models: "Models", asked: Asked) -> list[Record]:
    """Different layouts among LAYOUTS seeds of one prompt: right from 8 on."""
    records = []
    for rng, split, language in asked.turns(2):
        text, _ = caption(random_scene(rng, split, "1:1"), rng, language)
        seen = set()
        for part, seeds in asked.batched([text] * LAYOUTS):
            for made in models.draw(part, [SQUARE] * len(part), seeds):
                reading = read(models.picture(made))
                seen.add((reading.ground, *((t.kind, t.size, *t.centre) for t in reading.things)))
        records.append({"prompt": text, "layouts": len(seen), "right": len(seen) >= 8})
    return records


def vqa(models: "Models", asked: Asked) -> list[Record]:
    """Questions about pictures, the kinds in turn; pictures go through the vision tokenizer."""

    def ask(rng: np.random.Generator, split: str, language: str, kind: str):
        while True:
            scene = asked.scene(rng, split, "1:1")
            some = questions(scene, rng, language, asked.palette)
            some = [question for question in some if question[2] == kind]
            if some:
                return draw_array(scene), some[rng.integers(len(some))]

    return _answered(models, asked, ask, PICTURE_KINDS, 6)


def clip_vqa(models: "Models", asked: Asked) -> list[Record]:
    """Questions about clips, the kinds in turn."""

    def ask(rng: np.random.Generator, split: str, language: str, kind: str):
        while True:
            clip = random_clip(rng, split)
            some = [q for q in clip_questions(clip, rng, language) if q[2] == kind]
            if some:
                return frames_of(clip), some[rng.integers(len(some))]

    return _answered(models, asked, ask, CLIP_KINDS, 7)


def _answered(
    models: "Models", asked: Asked, ask: Callable, kinds: tuple[str, ...], task: int
) -> list[Record]:
    items = []
    for index, (rng, split, language) in enumerate(asked.turns(task)):
        kind = kinds[index // 2 % len(kinds)]
        items.append((*ask(rng, split, language, kind), split, language))
    records = []
    for part, _ in asked.batched(items):
        codes = [_coded(models, pixels) for pixels, *_ in part]
        answers = models.answer([said[0] for _, said, *_ in part], codes)
        for (_, (question, wanted, kind), split, language), answer in zip(part, answers):
            groups = {"kind": kind, "split": split, "language": language}
            said = {"question": question, "answer": answer, "expected": wanted}
            records.append({**said, "right": answer == wanted, **groups})
    return records


def _coded(models: "Models", pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 4:
        return models.encode_clip(pixels)
    return models.encode([Image.fromarray(pixels)])[0]


def edits(models: "Models", asked: Asked) -> list[Record]:
    """Pictures to change: what was asked done, the rest unchanged."""
    items = []
    for rng, split, language in asked.turns(8):
        made = None
        while made is None:
            made = random_edit(random_scene(rng, split, "1:1"), rng, language)
        items.append((made, split))
    records = []
    for part, seeds in asked.batched(items):
        before = [cell_kinds(edit.before) for edit, _ in part]
        codes = models.edit(before, [edit.text for edit, _ in part], seeds)
        for (edit, split), made in zip(part, codes):
            seen = read(models.picture(made))
            right = _edited(seen, edit)
            records.append({"prompt": edit.text, "right": right, "kind": edit.kind, "split": split})
    return records


def _edited(seen: Reading, edit) -> bool:
    """Whether a picture is the edit's; what is added may stand anywhere."""
    if edit.kind != "add":
        return checking.shows(seen, edit.after)
    kept = checking.shows(
        Reading(seen.rows, seen.cols, seen.ground, _without_one(seen, edit)), edit.before
    )
    return kept and len(seen.things) == len(edit.after.things)


def _without_one(seen: Reading, edit) -> tuple:
    """The things that are seen but for one that looks like the one added."""
    (new,) = set(edit.after.things) - set(edit.before.things)
    for index, thing in enumerate(seen.things):
        if (thing.kind, thing.colour, thing.size) == new.look:
            return seen.things[:index] + seen.things[index + 1 :]
    return seen.things


def drawings(models: "Models", asked: Asked) -> list[Record]:
    """Drawings by other means: what is this, and of which colour."""
    rng = np.random.default_rng([STREAM, asked.seed, 9])
    records = []
    for image, kind, colour in (drawing(rng) for _ in range(asked.count)):
        (answer,) = models.answer(["What is this?"], models.encode([image]))
        wanted = LANGUAGES["en"].thing(ThingFact(kind, colour))
        groups = {"kind": kind, "sides": "up to 128" if image.width <= 128 else "larger"}
        records.append({"answer": answer, "expected": wanted, "right": answer == wanted, **groups})
    return records


def reconstruction(models: "Models", asked: Asked) -> list[Record]:
    """Pictures and, a quarter as many, clips rebuilt: the judge reads the same; PSNR."""
    records = []
    for rng, split, _ in asked.turns(10):
        image = draw_array(random_scene(rng, split))
        rebuilt = models.picture(models.encode([Image.fromarray(image)])[0])
        right = checking.same(read(image), read(rebuilt))
        records.append({"right": right, "psnr": psnr(image, rebuilt), "what": "picture"})
    for rng, split, _ in asked.turns(11, asked.count // 4):
        frames = frames_of(random_clip(rng, split))
        rebuilt = models.frames(models.encode_clip(frames))
        alike = [checking.same(read(frames[i]), read(rebuilt[i])) for i in range(1, 16, 2)]
        record = {"right": all(alike), "psnr": psnr(frames, rebuilt), "what": "clip"}
        records.append(record)
    return records


MEASURES: dict[str, tuple[Callable[["Models", Asked], list[Record]], int]] = {
    "reconstruction": (reconstruction, 200),
    "t2i": (t2i, 500),
    "composition": (composition, 100),
    "variety": (variety, 10),
    "clips": (clips, 200),
    "extension": (extension, 200),
    "chained": (chained, 40),
    "vqa": (vqa, 500),
    "clip_vqa": (clip_vqa, 200),
    "edits": (edits, 200),
    "drawings": (drawings, 40),
}
