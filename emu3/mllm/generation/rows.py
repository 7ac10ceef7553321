"""The rows of the decoding batch: prompts, their guidance partners, copies for several pictures.

Shapes: B prompts, N = B x pictures sequences, R rows of the network (N, or 2N with guidance: all
conditional rows, then all unconditional ones), U distinct prompts among them, P prompt slots.

Every prompt is packed to the right edge of its P slots, whatever side it was padded on, so that
the next token of all rows has one slot while each row keeps positions of its own.
"""

from dataclasses import dataclass

import numpy as np

from emu3.arrays import as_numpy
from emu3.errors import InputError


@dataclass(frozen=True)
class Rows:
    """Distinct prompts and which of them each row starts from."""

    prompts: list[np.ndarray]  # U times 1-D int32
    source: np.ndarray  # (R,) index among the prompts
    guided: bool

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(prompt) for prompt in self.prompts)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row's prompt: (R,)."""
        return np.array([len(prompt) for prompt in self.prompts])[self.source]

    def packed(self, slots: int, pad: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask (U, P) int32 with every prompt at the right edge of P = `slots`."""
        ids = np.full((len(self.prompts), slots), pad, np.int32)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(self.prompts):
            ids[row, slots - len(prompt) :] = prompt
            mask[row, slots - len(prompt) :] = 1
        return ids, mask


def read_prompts(ids, mask, vocab_size: int, name: str = "input_ids") -> list[np.ndarray]:
    """The kept tokens of each row of ids (B, T) under mask (B, T): 1-D int32 each.

    Raises:
        InputError: shapes that do not fit, an empty prompt, or an id outside the vocabulary.
    """
    ids = as_numpy(ids)
    if ids.ndim != 2 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f"{name} has shape {ids.shape} and dtype {ids.dtype}; allowed: whole numbers "
            "(batch, tokens), at least one of each"
        )
    mask = np.ones(ids.shape, bool) if mask is None else as_numpy(mask) != 0
    if mask.shape != ids.shape:
        raise InputError(
            f"the attention mask of {name} has shape {mask.shape}; allowed: {ids.shape}"
        )
    prompts = [row[keep].astype(np.int32) for row, keep in zip(ids, mask)]
    for row, prompt in enumerate(prompts):
        if not prompt.size:
            raise InputError(f"row {row} of {name} is empty; allowed: at least one kept token")
        if prompt.min() < 0 or prompt.max() >= vocab_size:
            raise InputError(
                f"row {row} of {name} has ids {prompt.min()}..{prompt.max()}; allowed: "
                f"0..{vocab_size - 1}; tokenizer and model must belong together (--model)"
            )
    return prompts


def make_rows(prompts: list[np.ndarray], negatives: list[np.ndarray] | None, pictures: int) -> Rows:
    """Rows of the network for B prompts, their negative prompts (1 or B), and copies of each.

    Raises:
        InputError: as many negative prompts as fit no rule.
    """
    wanted = [prompt for prompt in prompts for _ in range(pictures)]
    if negatives is not None:
        if len(negatives) not in (1, len(prompts)):
            raise InputError(
                f"{len(negatives)} negative prompts for {len(prompts)} prompts; allowed: one for "
                "all or one each; change negative_prompt_ids"
            )
        negatives = negatives * (len(prompts) // len(negatives))
        wanted += [prompt for prompt in negatives for _ in range(pictures)]
    index: dict[bytes, int] = {}
    source = [index.setdefault(prompt.tobytes(), len(index)) for prompt in wanted]
    distinct = [np.frombuffer(key, np.int32) for key in index]
    return Rows(distinct, np.array(source), negatives is not None)
