"""What emu3-mini is asked in each task, and how its answers are graded.

Everything is drawn from a stream of chance that training never draws from; every second item is
a combination that training never shows. A measure returns records, one an item, each with "right"
and what it may be grouped by.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from train.mini.exam.drawings import drawing
from train.mini.words import LANGUAGES, checking
from train.mini.words.captions import caption, clip_caption
from train.mini.words.edits import random_edit
from train.mini.words.facts import ThingFact
from train.mini.words.questions import CLIP_KINDS, PICTURE_KINDS, clip_questions, questions
from train.mini.world.cells import cell_kinds, clip_kinds
from train.mini.world.compose import random_scene
from train.mini.world.draw import draw_array
from train.mini.world.motion import FRAMES, MOMENTS, extended, frames_of, random_clip
from train.mini.world.reading import Reading, read
from train.mini.world.scenes import RATIOS

if TYPE_CHECKING:
    from train.mini.exam.models import Models

STREAM = 20261128  # training seeds its generators with its --seed first, never with this number
SPLITS = ("held_out", "train")
GRID = (MOMENTS, 8, 8)
GIVEN = 3  # moments of a clip that is extended
NEXT = 2  # moments it is to go on for
CHAINED = 16  # moments of a clip extended again and again
LAYOUTS = 20  # seeds of one prompt
Record = dict[str, object]


def turns(count: int, seed: int, task: int) -> Iterator[tuple[np.random.Generator, str, str]]:
    """For each item a generator, its split and its language, in turn."""
    rng = np.random.default_rng([STREAM, seed, task])
    for index in range(count):
        yield rng, SPLITS[index % 2], list(LANGUAGES)[index // 2 % 2]


def batched(items: Sequence, size: int) -> Iterator[tuple[int, Sequence]]:
    """Items in lists of `size`, each with the number of its first."""
    for first in range(0, len(items), size):
        yield first, items[first : first + size]


def t2i(models: "Models", count: int, seed: int, batch: int) -> list[Record]:
    """Pictures of prompts: everything that is stated must be right."""
    records = []
    ratios = list(RATIOS) if count >= 20 else ["1:1"]
    items = []
    for index, (rng, split, language) in enumerate(turns(count, seed, 0)):
        ratio = "1:1" if index % 10 < 6 else ratios[index // 10 % len(ratios)]
        scene = random_scene(rng, split, ratio, 1 + index // 4 % 3)
        items.append((*caption(scene, rng, language), scene, ratio, split))
    for ratio in ratios:
        some = [item for item in items if item[3] == ratio]
        for first, part in batched(some, batch):
            sizes = [RATIOS[ratio]] * len(part)
            seeds = range(seed + first, seed + first + len(part))
            codes = models.draw([text for text, *_ in part], sizes, seeds)
            for (text, facts, _, _, split), made in zip(part, codes):
                verdict = checking.check(read(models.picture(made)), facts)
                groups = {"split": split, "number": facts.count, "ratio": ratio}
                records.append({"prompt": text, **verdict, **groups})
    return records


def composition(models: "Models", count: int, seed: int, batch: int) -> list[Record]:
    """Single things whose place nobody stated: right where none is in the outer ring of cells."""
    items = []
    for rng, split, language in turns(10 * count, seed, 1):
        scene = random_scene(rng, split, "1:1", 1)
        text, facts = caption(scene, rng, language)
        if not (facts.things[0].row or facts.things[0].col):
            items.append(text)
    records = []
    for first, part in batched(items[:count], batch):
        for text, made in zip(part, models.draw(part, [(8, 8)] * len(part), range(first, 10**6))):
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


def variety(models: "Models", count: int, seed: int, batch: int) -> list[Record]:
    """Different layouts among LAYOUTS seeds of one prompt: right from 8 on."""
    records = []
    for rng, split, language in turns(count, seed, 2):
        text, _ = caption(random_scene(rng, split, "1:1"), rng, language)
        seen = set()
        for _, part in batched(range(LAYOUTS), batch):
            for made in models.draw([text] * len(part), [(8, 8)] * len(part), part):
                reading = read(models.picture(made))
                seen.add((reading.ground, *((t.kind, t.size, *t.centre) for t in reading.things)))
        records.append({"prompt": text, "layouts": len(seen), "right": len(seen) >= 8})
    return records


def clips(models: "Models", count: int, seed: int, batch: int) -> list[Record]:
    """Clips of captions: things, start, direction and ground."""
    items = []
    for rng, split, language in turns(count, seed, 3):
        clip = random_clip(rng, split)
        items.append((*clip_caption(clip, rng, language), clip, split))
    records = []
    for first, part in batched(items, batch):
        codes = models.film([text for text, *_ in part], GRID, range(first, first + len(part)))
        for (text, facts, clip, split), made in zip(part, codes):
            verdict = checking.check_clip(_readings(models.frames(made)), facts)
            groups = {"split": split, "verb": clip.moving[0].verb}
            records.append({"prompt": text, **verdict, **groups})
    return records


def _readings(frames: np.ndarray) -> list[Reading]:
    """Every second frame read; the first of a moment and the last are among them."""
    return [read(frame) for frame in frames[1::2]]


def extension(models: "Models", count: int, seed: int, batch: int) -> list[Record]:
    """Frames that follow GIVEN moments: where the world's rules put every thing."""
    items = [
        (random_clip(rng, split, moments=GIVEN, skip=int(rng.integers(0, 4))), split)
        for rng, split, _ in turns(count, seed, 4)
    ]
    records = []
    for first, part in batched(items, batch):
        begun = [clip_kinds(clip.moments) for clip, _ in part]
        size = (GIVEN + NEXT, 8, 8)
        codes = models.film([""] * len(part), size, range(first, first + len(part)), begun)
        for (clip, split), made in zip(part, codes):
            frames = models.frames(made)[GIVEN * FRAMES :]
            moments = extended(clip, NEXT).moments[GIVEN - 1 :]
            right = checking.follows([read(frame) for frame in frames], moments)
            records.append({"right": right, "split": split, "verb": clip.moving[0].verb})
    return records


def chained(models: "Models", count: int, seed: int, batch: int) -> list[Record]:
    """Clips extended by two moments again and again: the last moments still as the rules say."""
    items = [random_clip(rng, split, moments=GIVEN) for rng, split, _ in turns(count, seed, 5)]
    records = []
    for first, part in batched(items, batch):
        codes = [clip_kinds(clip.moments) for clip in part]
        while len(codes[0]) < CHAINED:
            begun = [made[-2:] for made in codes]
            seeds = range(first, first + len(part))
            more = models.film([""] * len(part), GRID, seeds, begun)
            codes = [np.concatenate([made, new[2:]]) for made, new in zip(codes, more)]
        for clip, made in zip(part, codes):
            count = len(made)
            last = extended(clip, count - GIVEN).moments[-1]
            seen = read(models.frames(made[-4:])[-1])
            right = checking.follows([seen], (last, last))
            records.append({"right": right, "verb": clip.moving[0].verb})
    return records


def vqa(models: "Models", count: int, seed: int, batch: int) -> list[Record]:
    """Questions about pictures, the kinds in turn; pictures go through the vision tokenizer."""

    def ask(rng: np.random.Generator, split: str, language: str, kind: str):
        while True:
            scene = random_scene(rng, split, "1:1")
            asked = [q for q in questions(scene, rng, language) if q[2] == kind]
            if asked:
                return draw_array(scene), asked[rng.integers(len(asked))]

    return _asked(models, count, seed, batch, ask, PICTURE_KINDS, 6)


def clip_vqa(models: "Models", count: int, seed: int, batch: int) -> list[Record]:
    """Questions about clips, the kinds in turn."""

    def ask(rng: np.random.Generator, split: str, language: str, kind: str):
        while True:
            clip = random_clip(rng, split)
            asked = [q for q in clip_questions(clip, rng, language) if q[2] == kind]
            if asked:
                return frames_of(clip), asked[rng.integers(len(asked))]

    return _asked(models, count, seed, batch, ask, CLIP_KINDS, 7)


def _asked(
    models: "Models",
    count: int,
    seed: int,
    batch: int,
    ask: Callable,
    kinds: tuple[str, ...],
    task: int,
) -> list[Record]:
    items = []
    for index, (rng, split, language) in enumerate(turns(count, seed, task)):
        kind = kinds[index // 2 % len(kinds)]
        items.append((*ask(rng, split, language, kind), split, language))
    records = []
    for _, part in batched(items, batch):
        codes = [_coded(models, pixels) for pixels, *_ in part]
        answers = models.answer([asked[0] for _, asked, *_ in part], codes)
        for (_, (question, wanted, kind), split, language), answer in zip(part, answers):
            groups = {"kind": kind, "split": split, "language": language}
            said = {"question": question, "answer": answer, "expected": wanted}
            records.append({**said, "right": answer == wanted, **groups})
    return records


def _coded(models: "Models", pixels: np.ndarray) -> np.ndarray:
    from PIL import Image

    if pixels.ndim == 4:
        return models.encode_clip(pixels)
    return models.encode([Image.fromarray(pixels)])[0]


def edits(models: "Models", count: int, seed: int, batch: int) -> list[Record]:
    """Pictures to change: what was asked done, the rest unchanged."""
    items = []
    for rng, split, language in turns(count, seed, 8):
        made = None
        while made is None:
            made = random_edit(random_scene(rng, split, "1:1"), rng, language)
        items.append((made, split))
    records = []
    for first, part in batched(items, batch):
        before = [cell_kinds(edit.before) for edit, _ in part]
        texts = [edit.text for edit, _ in part]
        codes = models.edit(before, texts, range(first, first + len(part)))
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


def drawings(models: "Models", count: int, seed: int, _: int) -> list[Record]:
    """Drawings by other means: what is this, and of which colour."""
    rng = np.random.default_rng([STREAM, seed, 9])
    items = [drawing(rng) for _ in range(count)]
    records = []
    for image, kind, colour in items:
        codes = models.encode([image])
        (answer,) = models.answer(["What is this?"], codes)
        wanted = LANGUAGES["en"].thing(ThingFact(kind, colour))
        groups = {"kind": kind, "sides": "up to 128" if image.width <= 128 else "larger"}
        records.append({"answer": answer, "expected": wanted, "right": answer == wanted, **groups})
    return records


def reconstruction(models: "Models", count: int, seed: int, _: int) -> list[Record]:
    """Pictures and, a quarter as many, clips rebuilt: the judge reads the same; PSNR."""
    from PIL import Image

    from emu3.metrics import psnr

    records = []
    for rng, split, _ in turns(count, seed, 10):
        image = draw_array(random_scene(rng, split))
        rebuilt = models.picture(models.encode([Image.fromarray(image)])[0])
        right = checking.same(read(image), read(rebuilt))
        records.append({"right": right, "psnr": psnr(image, rebuilt), "what": "picture"})
    for rng, split, _ in turns(count // 4, seed, 11):
        frames = frames_of(random_clip(rng, split))
        rebuilt = models.frames(models.encode_clip(frames))
        alike = [checking.same(read(frames[i]), read(rebuilt[i])) for i in range(1, 16, 2)]
        record = {"right": all(alike), "psnr": psnr(frames, rebuilt), "what": "clip"}
        records.append(record)
    return records


MEASURES: dict[str, tuple[Callable[..., list[Record]], int]] = {
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
