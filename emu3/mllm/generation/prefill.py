"""Prompts: which of their tokens count, packed once, and through the model's network in chunks.

Under dynamic rotary scaling each prompt has the base of its own length, whatever its batch.

Shapes: B prompts, N = B x copies sequences, R rows of the network (N, or 2N with guidance),
U distinct prompts among them, P prompt slots, T tokens of a chunk, C hidden width, G key/value
heads, D head width.

    rows     conditional 0..N-1, unconditional 0..N-1; `source` is the prompt each starts from
    packed   ------ a a a a      every prompt stands at the right edge of its P slots, whatever
             -- b b b b b b      side it was padded on: the next token of all rows has one slot,
                                 while each row keeps positions of its own
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from mindspore import Tensor, int32, ops

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.rotary import causal_bias, positions_from_mask, rope_table
from emu3.mllm.vocabulary import Vocabulary
from emu3.runtime import graph_mode

CHUNK = 512
QUIET_SECONDS = 2.0  # prompts, or the choice among candidates, may take before it is told
GRAPH_SLOTS = 64


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

    @property
    def slots(self) -> int:
        """Columns for the prompts: as many as the longest needs; in steps in graph mode, which
        compiles the network for each number of columns."""
        if graph_mode():
            return -(-self.longest // GRAPH_SLOTS) * GRAPH_SLOTS
        return self.longest

    def copies(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Of tensors (U, ...), what belongs to each row: (R, ...)."""
        if np.array_equal(self.source, np.arange(len(self.prompts))):
            return tensors
        source = Tensor(self.source.astype(np.int32))
        return tuple(ops.gather(tensor, source, 0) for tensor in tensors)

    def packed(self, slots: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask (U, P) int32 with every prompt at the right edge of P = `slots`."""
        ids = np.zeros((len(self.prompts), slots), np.int32)
        mask = np.zeros_like(ids)
        for row, prompt in enumerate(self.prompts):
            ids[row, slots - len(prompt) :] = prompt
            mask[row, slots - len(prompt) :] = 1
        return ids, mask


def make_rows(prompts: list[np.ndarray], negatives: list[np.ndarray] | None, copies: int) -> Rows:
    """Rows of the network for B prompts, their negative prompts (1 or B), and copies of each.

    Raises:
        InputError: as many negative prompts as fit no rule.
    """
    wanted = [prompt for prompt in prompts for _ in range(copies)]
    if negatives is not None:
        if len(negatives) not in (1, len(prompts)):
            raise InputError(
                f"{len(negatives)} negative prompts for {len(prompts)} prompts; allowed: one for "
                "all or one each; change negative_prompt_ids"
            )
        negatives = negatives * (len(prompts) // len(negatives))
        wanted += [prompt for prompt in negatives for _ in range(copies)]
    index: dict[bytes, int] = {}
    source = [index.setdefault(prompt.tobytes(), len(index)) for prompt in wanted]
    distinct = [np.frombuffer(key, np.int32) for key in index]
    return Rows(distinct, np.array(source), negatives is not None)


@dataclass(frozen=True)
class Prefill:
    """What the prompts leave behind: the last hidden state (U, C) and, per layer, key and value.

    `cache` holds key, value of each layer in turn, each (U, G, P, D).
    """

    hidden: Tensor
    cache: tuple[Tensor, ...]


def prefill(model, rows: Rows, slots: int) -> Generator[tuple[int, int], None, Prefill]:
    """Run the distinct prompts, packed into `slots` columns, through `model` once.

    Yields parts done and parts in all after each part; returns what is left behind.
    """
    ids, mask = rows.packed(slots)
    tables = _rope_tables(model.config, rows, slots)
    positions = positions_from_mask(mask)
    past: tuple[Tensor, ...] = ()
    for start in range(0, slots, CHUNK):
        stop = min(start + CHUNK, slots)
        embeds = model.model.embed_tokens(Tensor(ids[:, start:stop], int32))
        here = positions[:, start:stop]
        cos, sin = (
            Tensor(np.stack([table[part][row] for table, row in zip(tables, here)]), embeds.dtype)
            for part in (0, 1)
        )
        bias = Tensor(causal_bias(mask[:, :stop], stop - start))
        if graph_mode():
            hidden, _, past = model.model(embeds, cos, sin, bias, *past)
            hidden = hidden[:, -1]
            yield stop, slots
            continue
        before, past, count = past, (), len(model.model.layers)
        for i, layer in enumerate(model.model.layers):
            # Of the prompt's last layer only its last token goes on.
            last = 1 if stop == slots and i + 1 == count else None
            known = before[2 * i : 2 * i + 2] or (None, None)
            embeds, *cached = layer(embeds, cos, sin, bias, *known, last)
            past += tuple(cached)
            yield start * count + (i + 1) * (stop - start), slots * count
        hidden = model.model.norm(embeds[:, -1])
    return Prefill(hidden, past)


def _rope_tables(config, rows: Rows, slots: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """cos and sin (P or so, D) for each distinct prompt; one table where the base is one."""
    dynamic = config.rope_scaling is not None and config.rope_scaling["type"] == "dynamic"
    if dynamic and rows.longest > config.max_position_embeddings:
        return [rope_table(config, max(len(prompt), 2)) for prompt in rows.prompts]
    length = slots if config.rope_scaling else min(slots, config.max_position_embeddings)
    return [rope_table(config, length)] * len(rows.prompts)
