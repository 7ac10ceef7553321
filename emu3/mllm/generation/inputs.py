"""Prompts and negative prompts as people give them: which of their tokens count.

Shapes: B prompts, T columns of input_ids.
"""

import numpy as np

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.vocabulary import Vocabulary


def read_ids(ids, mask, vocab_size: int, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids (B, T) int32 and mask (B, T) bool, None where neither it nor the rows' lengths say one.

    `ids` are rows of ids of any length, which need no mask, or (B, T).

    Raises:
        InputError: shapes that do not fit, or an id outside the vocabulary.
    """
    if isinstance(ids, list) and ids and mask is None:
        rows = [_whole(np.asarray(row), name) for row in ids]
        width = max(row.size for row in rows)
        ids = np.stack([np.pad(row, (width - row.size, 0)) for row in rows])
        mask = np.arange(width) >= width - np.array([[row.size] for row in rows])
        mask = None if mask.all() else mask
    else:
        ids = _whole(as_numpy(ids), name, 2)
        mask = None if mask is None else as_numpy(mask) != 0
        if mask is not None and mask.shape != ids.shape:
            raise InputError(
                f"the attention mask of {name} has shape {mask.shape}; allowed: {ids.shape}"
            )
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise InputError(
            f"{name} have ids {ids.min()}..{ids.max()}; allowed: 0..{vocab_size - 1}; tokenizer "
            "and model must belong together (--model)"
        )
    return ids.astype(np.int32), mask


def kept_tokens(
    ids: np.ndarray, mask: np.ndarray | None, given: bool, pad: int | None, name: str
) -> list[np.ndarray]:
    """The tokens of each prompt that count, 1-D int32.

    Without a `given` mask pad ids do not count, as in transformers; `pad` is None where they may
    mean something else, such as the end of an answer.

    Raises:
        InputError: a prompt of which nothing counts.
    """
    mask = np.ones(ids.shape, bool) if mask is None else mask
    if not given and pad is not None:
        mask = mask & (ids != pad)
    for row, keep in enumerate(mask):
        if not keep.any():
            raise InputError(f"row {row} of {name} is empty; allowed: at least one kept token")
    return [row[keep] for row, keep in zip(ids, mask)]


def empty_negative(vocabulary: Vocabulary, prompt: np.ndarray) -> np.ndarray | None:
    """The prompt (T,) of the same picture with no text, as the processor lays out ""; 1-D int32.

    None where the prompt has no boi, where its picture's head begins.
    """
    begins = np.flatnonzero(prompt == vocabulary.boi)
    if not begins.size:
        return None
    return np.concatenate([np.array([vocabulary.bos], np.int32), prompt[begins[-1] :]])


def _whole(ids: np.ndarray, name: str, axes: int = 1) -> np.ndarray:
    """`ids`, when they are whole numbers on so many axes, at least one on each."""
    if ids.ndim != axes or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f"{name} has shape {ids.shape} and dtype {ids.dtype}; allowed: whole numbers "
            "(batch, tokens), at least one of each"
        )
    return ids
