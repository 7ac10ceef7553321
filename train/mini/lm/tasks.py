"""Samples of every task, drawn at random: the names of cells are the codes, so none is encoded.

Everything that is made is a sample of its own; questions about one picture or clip share it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emu3.mllm.parts import Coded, Message, Text
from emu3.mllm.prompts import PromptBuilder
from train.data.parts import Given, Said, Wanted
from train.data.samples import Sample, conversation_sample, parts_sample
from train.mini.words import LANGUAGES
from train.mini.words.captions import caption, clip_caption
from train.mini.words.edits import Edit, random_edit
from train.mini.words.questions import clip_questions, questions
from train.mini.world.cells import cell_kinds, clip_kinds
from train.mini.world.compose import random_scene
from train.mini.world.motion import MOMENTS, Clip, random_clip
from train.mini.world.scenes import Scene, held_out

if TYPE_CHECKING:
    from train.mini.lm.seen import Seen

NULL_PROMPT = 0.04  # chance that a caption is left out, so that guidance has its other half
TINY = 0.6  # share of pictures of few cells that have the fewest
TWO = 0.7  # chance that these show two things
SEEN = 0.5  # chance that a picture that is shown is one the vision tokenizer saw
TOLD = 0.5  # chance that a clip that goes on has its caption
SKIPS = (0, 0, 1, 2, 3, 5, 8)  # moments before a clip that goes on
# How soon a question of a kind is taken into a row; others count 1.
KIND_WEIGHTS = {"relation": 3, "where": 2, "what": 2, "describe": 2, "next": 3, "describe clip": 2}
ROUNDS = 3  # wordings of every question


@dataclass(frozen=True)
class Drawing:
    """What samples are drawn with.

    `small` is the share of pictures and clips of few cells, of which a row holds more: every thing
    in them tells which word means what. `seen` are pictures as the vision tokenizer sees them, half
    of the larger ones that are shown to the model.
    """

    rng: np.random.Generator
    builder: PromptBuilder
    small: float = 0.0
    seen: Sequence["Seen"] = ()

    def few(self) -> str | None:
        """The ratio of a picture of few cells, or None for one of any."""
        if self.rng.random() >= self.small:
            return None
        return "tiny" if self.rng.random() < TINY else "small"

    def scene(self, few: str | None) -> Scene:
        """A scene at random; on the fewest cells there are one or two things."""
        count = 1 + int(self.rng.random() < TWO) if few == "tiny" else None
        return random_scene(self.rng, ratio=few, count=count)

    def shown(self) -> tuple[Scene, np.ndarray]:
        """A scene and the codes of a picture of it, the right ones or those that are seen."""
        few = self.few()
        if self.seen and not few and self.rng.random() < SEEN:
            one = self.seen[self.rng.integers(len(self.seen))]
            return one.scene, one.codes
        scene = self.scene(few)
        return scene, cell_kinds(scene)

    def clip(self, **about: int) -> Clip:
        """A clip at random."""
        ratio = "small" if self.rng.random() < self.small else "1:1"
        return random_clip(self.rng, ratio=ratio, **about)

    @property
    def language(self) -> str:
        """English or Chinese."""
        return str(self.rng.choice(list(LANGUAGES)))


def picture(drawing: Drawing) -> list[Said]:
    """A picture from text."""
    scene = drawing.scene(drawing.few())
    text, _ = caption(scene, drawing.rng, drawing.language)
    return [_caption(drawing, text), Wanted(Coded(cell_kinds(scene)))]


def clip(drawing: Drawing) -> list[Said]:
    """A clip from text."""
    shown = drawing.clip()
    text, _ = clip_caption(shown, drawing.rng, drawing.language)
    return [_caption(drawing, text), Wanted(Coded(clip_kinds(shown.moments)))]


def extension(drawing: Drawing) -> list[Said]:
    """A clip of which the first moments are given, now and then with what it shows."""
    rng = drawing.rng
    moments = int(rng.choice([MOMENTS, MOMENTS + 1]))
    shown = drawing.clip(moments=moments, skip=int(rng.choice(SKIPS)))
    text, _ = clip_caption(shown, rng, drawing.language)
    given = int(rng.integers(2, moments))
    codes = Coded(clip_kinds(shown.moments))
    return [Given(Text(text if rng.random() < TOLD else "")), Wanted(codes, given=given)]


def edit(drawing: Drawing) -> list[Said]:
    """A picture, what is to be changed, and the picture then."""
    made, codes = None, None
    while made is None:
        scene, codes = drawing.shown()
        made = _edit(drawing, scene)
    user = Message("user", (Coded(codes), Text(made.text)))
    return [user, Message("assistant", (Coded(cell_kinds(made.after)),))]


def talk(drawing: Drawing) -> list[Said]:
    """Several turns about one picture: questions, then now and then an edit of it."""
    rng, (scene, codes) = drawing.rng, drawing.shown()
    asked = questions(scene, rng, drawing.language)
    order = rng.permutation(len(asked))[: int(rng.integers(1, 4))]
    said: list[Said] = []
    for number, index in enumerate(order):
        question, answer, _ = asked[index]
        first = () if number else (Coded(codes),)
        said += [Message("user", (*first, Text(question))), Message("assistant", (Text(answer),))]
    if rng.random() < 0.5:
        made = _edit(drawing, scene)
        if made is not None:
            said += [
                Message("user", (Text(made.text),)),
                Message("assistant", (Coded(cell_kinds(made.after)),)),
            ]
    return said


def _edit(drawing: Drawing, scene: Scene) -> Edit | None:
    """An edit of the scene; None where nothing can be asked of it that training may show."""
    made = random_edit(scene, drawing.rng, drawing.language)
    return None if made is None or held_out(made.after) else made


def _caption(drawing: Drawing, text: str) -> Given:
    return Given(Text("" if drawing.rng.random() < NULL_PROMPT else text))


MADE: dict[str, Callable[[Drawing], list[Said]]] = {
    "picture": picture,
    "clip": clip,
    "extension": extension,
    "edit": edit,
    "talk": talk,
}
ASKED = ("ask", "ask clip")


def made_sample(drawing: Drawing, task: str) -> Sample:
    """A sample of a task of `MADE`."""
    return parts_sample(drawing.builder, MADE[task](drawing))


def asked_sample(drawing: Drawing, task: str, length: int) -> Sample:
    """A picture or a clip with as many questions about it as fit into `length` tokens."""
    rng, language = drawing.rng, drawing.language
    if task == "ask":
        scene, codes = drawing.shown()
        rounds = [questions(scene, rng, language) for _ in range(ROUNDS)]
    else:
        shown = drawing.clip(skip=int(rng.choice([0, 0, 1, 2])))
        codes = clip_kinds(shown.moments)
        rounds = [clip_questions(shown, rng, language) for _ in range(ROUNDS)]
    asked = {q: (a, kind) for some in rounds for q, a, kind in some}
    if not asked:
        return asked_sample(drawing, task, length)
    weights = np.array([KIND_WEIGHTS.get(kind, 1) for _, kind in asked.values()])
    order = np.argsort(rng.exponential(size=len(weights)) / weights)
    turns = [(q, a) for q, (a, _) in asked.items()]
    return filled(drawing.builder, codes, [turns[i] for i in order], length)


def filled(
    builder: PromptBuilder, codes: np.ndarray, turns: list[tuple[str, str]], length: int
) -> Sample:
    """An image or clip and, one branch each, as many of the turns as fit into so many tokens."""
    prompt = builder.understanding("", codes)
    tokens = prompt.index(builder.vocabulary.eoi) + 1
    around, kept = len(prompt) - tokens + 1, []  # 1: texts may join less well
    for question, answer in turns:
        encode = builder.tokenizer.encode_ordinary
        needed = len(encode(question)) + around + len(encode(answer)) + 1
        if tokens + needed <= length:
            kept.append((question, answer))
            tokens += needed
    return conversation_sample(builder, codes, kept)
