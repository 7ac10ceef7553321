"""What emu3-mini's language model learns from: scenes, captions and questions drawn as it goes."""

import numpy as np

from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.mllm.prompts import PromptBuilder
from train.data.samples import Batch, Sample, collate, conversation_sample, t2i_sample
from train.mini.cells import cell_kinds
from train.mini.language import LANGUAGES, caption, questions
from train.mini.options import DrawnOptions
from train.mini.scenes import SMALL, Scene, held_out, random_scene
from train.mini.teacher import CANDIDATES, redrawn, targets

# How soon a question of a kind is taken into a row; what is learnt early comes seldom.
KIND_WEIGHTS = {
    "relation": 5,
    "position": 6,
    "colour": 1.5,
    "yes/no": 1.2,
    "describe": 2.5,
    "count": 1,
    "size": 0.7,
    "shape": 0.7,
}
OTHER_KINDS = 0.2
ASKED_IN = {"en": 0.4, "zh": 0.6}
ROUNDS = 4
# Share of captioned pictures that the teacher draws; the others put their shapes anywhere, so that
# the targets are also learnt where the teacher itself would seldom get.
REDRAWN = 0.5


class Batches:
    """The batch of every step, a function of the step alone: pictures and questions in turn."""

    def __init__(self, options: DrawnOptions, seed: int, builder: PromptBuilder) -> None:
        self.options, self.seed, self.builder = options, seed, builder

    def at(self, step: int) -> tuple[str, Batch, np.ndarray, np.ndarray]:
        """Name and batch of a step, then the `labels` and `weights` of `Loss`."""
        rng = np.random.default_rng((self.seed, step))
        cycle = self.options.cycle
        if step % cycle < cycle - self.options.vqa_share:
            return "t2i", *self._pictures(rng)
        batch = self._questions(rng)
        return "vqa", batch, *certain(batch.labels)

    def _scene(self, rng: np.random.Generator, small: float = 0.0) -> Scene:
        ratio = str(rng.choice(list(SMALL))) if rng.random() < small else None
        count = int(
            rng.choice([1, 2, 3], p=np.array(self.options.counts) / sum(self.options.counts))
        )
        return random_scene(rng, "train", ratio, count)

    def _pictures(self, rng: np.random.Generator) -> tuple[Batch, np.ndarray, np.ndarray]:
        options, start = self.options, self.builder.vocabulary.visual_start
        rows = [self._picture(rng) for _ in range(options.t2i_batch)]
        samples = [sample for sample, _, _ in rows]
        total = options.t2i_batch * options.t2i_labels
        batch = collate(samples, options.t2i_length, total, self.builder.vocabulary.pad)
        labels = np.full((total, CANDIDATES), IGNORED_LABEL, np.int32)
        weights = np.zeros((total, CANDIDATES), np.float32)
        used = sum(len(ids) for _, ids, _ in rows)
        labels[:used] = np.concatenate([ids for _, ids, _ in rows]) + start
        weights[:used] = np.concatenate([shares for _, _, shares in rows])
        return batch, labels, weights

    def _picture(self, rng: np.random.Generator) -> tuple[Sample, np.ndarray, np.ndarray]:
        """A T2I sample that fits, and the teacher's targets of its cells."""
        while True:
            scene = self._scene(rng)
            text, facts = caption(scene, rng, str(rng.choice(list(LANGUAGES))))
            dropped = rng.random() < self.options.null_prompt_prob
            if dropped or rng.random() < REDRAWN:
                scene = redrawn(scene, facts, rng)
            if held_out(scene):
                continue
            codes = cell_kinds(scene)
            sample = t2i_sample(self.builder, "" if dropped else text, codes)
            if len(sample.ids) <= self.options.t2i_length and codes.size <= self.options.t2i_labels:
                return sample, *(shown(codes) if dropped else targets(scene, facts))

    def _questions(self, rng: np.random.Generator) -> Batch:
        options = self.options
        samples = [self._conversation(rng) for _ in range(options.vqa_batch)]
        total = options.vqa_batch * options.vqa_labels
        return collate(samples, options.vqa_length, total, self.builder.vocabulary.pad)

    def _conversation(self, rng: np.random.Generator) -> Sample:
        scene = self._scene(rng, self.options.small)
        language = str(rng.choice(list(ASKED_IN), p=list(ASKED_IN.values())))
        asked = {
            q: (a, kind) for _ in range(ROUNDS) for q, a, kind in questions(scene, rng, language)
        }
        weights = np.array([KIND_WEIGHTS.get(kind, OTHER_KINDS) for _, kind in asked.values()])
        order = np.argsort(rng.exponential(size=len(weights)) / weights)
        turns = [(q, a) for q, (a, _) in asked.items()]
        turns = [turns[i] for i in order]
        return filled(
            self.builder, cell_kinds(scene), turns, self.options.vqa_length, self.options.vqa_labels
        )


def certain(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) as `train.mini.step.Loss` takes them: one candidate each, (N, 1), of weight 1."""
    return labels[:, None], np.ones((len(labels), 1), np.float32)


def filled(
    builder: PromptBuilder,
    codes: np.ndarray,
    turns: list[tuple[str, str]],
    length: int,
    labels: int,
) -> Sample:
    """An image and, one branch each, as many of the turns as fit so many tokens and labels."""
    prompt = builder.understanding("", codes)
    tokens = prompt.index(builder.vocabulary.eoi) + 1
    around, used, kept = len(prompt) - tokens + 1, 0, []  # 1: texts may join less well
    for question, answer in turns:
        encode = builder.tokenizer.encode_ordinary
        answer_length = len(encode(answer)) + 1
        needed = len(encode(question)) + around + answer_length
        if tokens + needed <= length and used + answer_length <= labels:
            kept.append((question, answer))
            tokens, used = tokens + needed, used + answer_length
    return conversation_sample(builder, codes, kept)


def shown(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets as `train.mini.teacher.targets` gives them, which are the codes themselves."""
    shares = np.zeros((codes.size, CANDIDATES), np.float32)
    shares[:, 0] = 1
    return np.repeat(codes.reshape(-1, 1), CANDIDATES, 1), shares
