"""From features to ids and labels: the one place that says what is supervised.

T2I supervises the visual ids, with `structure` also what ends rows and image (eol, eof, eoi,
eos); questions, conversations and text supervise each response and its eos; padding never.
Lists of parts supervise what is wanted: `part_labels` tells it.

Independent questions about one image share it: the image stands once, each question is a
branch that sees the image and itself, at the positions it would have alone. That is exactly the
sum of the separate samples, for a fraction of their tokens. The turns of a conversation stand one
after the other in one context.

A sample that is too long is never cut inside a turn: its last turns are left out whole until it
fits, and if not even the first turn fits, or there are no turns (T2I), the sample is.
"""

from dataclasses import dataclass, fields

import numpy as np

from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.mllm.prompts import PromptBuilder
from train.data.features import Feature
from train.data.part_labels import labelled, worded
from train.data.parts import Said

PADDING = -1  # in Sample.branches after collating


@dataclass(frozen=True)
class Sample:
    """Four int32 arrays of one length T.

    `labels[t]` is the id wanted at place t itself, -100 where nothing is; `branches` is 0 for
    what all later tokens see, k > 0 for branch k.
    """

    ids: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    branches: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Fixed-shape arrays: (B, T) each, and for the L labels their places and ids.

    `places` are flat indices b * T + t of the token BEFORE each label; unused entries have label
    -100.
    """

    ids: np.ndarray
    positions: np.ndarray
    branches: np.ndarray
    places: np.ndarray
    labels: np.ndarray


def feature_sample(
    builder: PromptBuilder,
    feature: Feature,
    rng: np.random.Generator | None = None,
    null_prompt_prob: float = 0.0,
    structure: bool = False,
) -> Sample:
    """The sample of a feature, of whatever kind.

    Args:
        rng: draws the caption among several, whether it is dropped and the order of independent
            questions; None takes the first caption and the order as it is.
        null_prompt_prob: chance that a caption becomes empty, so that guidance has its other half.
        structure: see `t2i_sample`.

    Raises:
        InputError: codes outside the vocabulary.
    """
    if feature.parts:
        entries = worded(feature.parts, feature.captions, rng, null_prompt_prob)
        return parts_sample(builder, entries, structure)
    if feature.kind == "t2i":
        text = feature.texts
        if rng is not None:
            text = str(rng.choice(feature.captions or [text]))
            text = "" if rng.random() < null_prompt_prob else text
        return t2i_sample(builder, text, feature.codes, structure)
    turns = feature.all_turns
    if feature.kind == "text" or not feature.independent:
        return dialogue_sample(builder, feature.codes, turns)
    order = range(len(turns)) if rng is None else rng.permutation(len(turns))
    return conversation_sample(builder, feature.codes, [turns[i] for i in order])


def t2i_sample(
    builder: PromptBuilder, text: str, codes: np.ndarray, structure: bool = False
) -> Sample:
    """bos, caption, image block, eos; the visual ids are labels.

    With `structure` everything after the prompt is: eol, eof, eoi and eos too, as a model needs
    that is to end rows and images without the grammar.
    """
    vocabulary = builder.vocabulary
    prompt = builder.generation(text, *codes.shape)
    ids = np.array([*prompt, *vocabulary.image_body(codes), vocabulary.eos], np.int32)
    wanted = np.arange(len(ids)) >= len(prompt)
    if not structure:
        wanted &= vocabulary.is_visual(ids)
    labels = np.where(wanted, ids, IGNORED_LABEL).astype(np.int32)
    return Sample(ids, labels, np.arange(len(ids), dtype=np.int32), np.zeros_like(ids))


def dialogue_sample(
    builder: PromptBuilder, codes: np.ndarray | None, turns: list[tuple[str, str]]
) -> Sample:
    """A conversation in one context, about an image or, with codes None, without one.

    The first turn is the understanding prompt and its response, each later one the follow-up
    prompt and its response; every response and its eos are labels.
    """
    parts: list[Sample] = []
    length = 0
    for number, (question, response) in enumerate(turns):
        prompt = builder.follow_up(question) if number else builder.understanding(question, codes)
        answer = [*builder.tokenizer.encode_ordinary(response), builder.vocabulary.eos]
        parts.append(_part(prompt, answer, length, 0))
        length += len(parts[-1].ids)
    return _joined(parts)


def conversation_sample(
    builder: PromptBuilder, codes: np.ndarray, turns: list[tuple[str, str]]
) -> Sample:
    """One image and several independent (question, response) branches.

    Each branch is what the understanding prompt of that question continues with, then the
    response and eos, which are labels. With an image of 3 tokens and two questions:

        tokens     image image image | ask 1 answer 1 eos | ask 2 answer 2 eos
        branches       0     0     0 |     1        1   1 |     2        2   2
        positions      0     1     2 |     3        4   5 |     3        4   5
    """
    vocabulary = builder.vocabulary
    parts: list[Sample] = []
    shared = 0
    for branch, (question, response) in enumerate(turns, 1):
        prompt = builder.understanding(question, codes)
        if branch == 1:
            shared = prompt.index(vocabulary.eoi) + 1
            parts.append(_part(prompt[:shared], [], 0, 0))
        answer = [*builder.tokenizer.encode_ordinary(response), vocabulary.eos]
        parts.append(_part(prompt[shared:], answer, shared, branch))
    return _joined(parts)


def parts_sample(builder: PromptBuilder, entries: list[Said], structure: bool = False) -> Sample:
    """The sample of a list of parts, or of a conversation (`train.data.part_labels`).

    Raises:
        InputError: messages that do not take turns, or codes outside the vocabulary.
    """
    ids, labels = labelled(builder, entries, structure)
    return Sample(ids, labels, np.arange(len(ids), dtype=np.int32), np.zeros_like(ids))


def _part(given: list[int], wanted: list[int], first: int, branch: int) -> Sample:
    """Tokens of one branch from position `first` on; the wanted ones are labels."""
    ids = np.array([*given, *wanted], np.int32)
    labels = ids.copy()
    labels[: len(given)] = IGNORED_LABEL
    positions = first + np.arange(len(ids), dtype=np.int32)
    return Sample(ids, labels, positions, np.full_like(ids, branch))


def _joined(parts: list[Sample]) -> Sample:
    names = [field.name for field in fields(Sample)]
    return Sample(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def fitted(builder: PromptBuilder, sample: Sample, length: int) -> tuple[Sample | None, int]:
    """`sample` in at most `length` tokens by the rule at the top, and how many turns that cost.

    The sample is None when it is left out whole; a T2I sample counts as one turn.
    """
    if len(sample.ids) <= length:
        return sample, 0
    ends = np.flatnonzero(sample.labels == builder.vocabulary.eos) + 1  # every turn ends in eos
    kept = int((ends <= length).sum())
    if not kept:
        return None, max(len(ends), 1)
    end = ends[kept - 1]
    shorter = Sample(
        sample.ids[:end], sample.labels[:end], sample.positions[:end], sample.branches[:end]
    )
    return shorter, len(ends) - kept


def collate(samples: list[Sample], length: int, labels: int, pad: int) -> Batch:
    """Pad samples on the right to `length` tokens and their labels to `labels` in all.

    A sample that is longer, or whose labels no longer fit, is left out whole: its labels never
    fall out of step.
    """
    shape = (len(samples), length)
    batch = Batch(
        np.full(shape, pad, np.int32),
        np.zeros(shape, np.int32),
        np.full(shape, PADDING, np.int32),
        np.zeros(labels, np.int32),
        np.full(labels, IGNORED_LABEL, np.int32),
    )
    used = 0
    for row, sample in enumerate(samples):
        at = np.flatnonzero(sample.labels != IGNORED_LABEL)
        if len(sample.ids) > length or used + len(at) > labels:
            continue
        batch.ids[row, : len(sample.ids)] = sample.ids
        batch.positions[row, : len(sample.ids)] = sample.positions
        batch.branches[row, : len(sample.ids)] = sample.branches
        batch.places[used : used + len(at)] = row * length + at - 1
        batch.labels[used : used + len(at)] = sample.labels[at]
        used += len(at)
    return batch
