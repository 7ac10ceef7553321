"""From features to ids and labels: the one place that says what is supervised.

T2I supervises the visual ids only; a conversation supervises each response and its eos only;
padding never. Questions about one image share it: the image stands once, each question is a
branch that sees the image and itself, at the positions it would have alone. That is exactly the
sum of the separate samples, for a fraction of their tokens.
"""

from dataclasses import dataclass

import numpy as np

from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.mllm.prompts import PromptBuilder

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


def t2i_sample(builder: PromptBuilder, text: str, codes: np.ndarray) -> Sample:
    """bos, caption, image block, eos; the visual ids are labels."""
    vocabulary = builder.vocabulary
    prompt = builder.generation(text, *codes.shape)
    ids = np.array([*prompt, *vocabulary.image_body(codes), vocabulary.eos], np.int32)
    visual = vocabulary.is_visual(ids) & (np.arange(len(ids)) >= len(prompt))
    labels = np.where(visual, ids, IGNORED_LABEL).astype(np.int32)
    return Sample(ids, labels, np.arange(len(ids), dtype=np.int32), np.zeros_like(ids))


def conversation_sample(
    builder: PromptBuilder, codes: np.ndarray, turns: list[tuple[str, str]]
) -> Sample:
    """One image and several independent (question, response) branches.

    Each branch is what the understanding prompt of that question continues with, then the
    response and eos, which are labels.
    """
    vocabulary = builder.vocabulary
    parts: list[tuple[list[int], list[int], int, int]] = []  # ids, labels, first position, branch
    shared = 0
    for branch, (question, response) in enumerate(turns, 1):
        prompt = builder.understanding(question, codes)
        if branch == 1:
            shared = prompt.index(vocabulary.eoi) + 1
            parts.append((prompt[:shared], [IGNORED_LABEL] * shared, 0, 0))
        answer = [*builder.tokenizer.encode_ordinary(response), vocabulary.eos]
        silent = [IGNORED_LABEL] * (len(prompt) - shared)
        parts.append((prompt[shared:] + answer, silent + answer, shared, branch))
    return Sample(
        np.concatenate([ids for ids, _, _, _ in parts]).astype(np.int32),
        np.concatenate([labels for _, labels, _, _ in parts]).astype(np.int32),
        np.concatenate([first + np.arange(len(ids)) for ids, _, first, _ in parts]).astype(
            np.int32
        ),
        np.concatenate([np.full(len(ids), k) for ids, _, _, k in parts]).astype(np.int32),
    )


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
