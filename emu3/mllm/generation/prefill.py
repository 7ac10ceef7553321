"""Prompts through the model's own network in chunks, and their keys and values for the cache.

Positions end at max_position_embeddings here, so dynamic rotary scaling never changes its base.

Shapes: U distinct prompts, P prompt slots, T tokens of a chunk, C hidden width, G key/value
heads, D head width.
"""

from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor

from emu3.mllm.generation.rows import Rows
from emu3.mllm.rotary import causal_bias, positions_from_mask, rope_table

CHUNK = 512
GRAPH_SLOTS = 64


@dataclass(frozen=True)
class Prefill:
    """What the prompts leave behind: the last hidden state (U, C) and, per layer, key and value.

    `cache` holds key, value of each layer in turn, each (U, G, P, D); `mask` is (U, P).
    """

    hidden: Tensor
    cache: tuple[Tensor, ...]
    mask: np.ndarray


def prompt_slots(rows: Rows) -> int:
    """Columns for the prompts: as many as the longest needs; in steps in graph mode, which
    compiles the network for each number of columns."""
    if ms.get_context("mode") == ms.GRAPH_MODE:
        return -(-rows.longest // GRAPH_SLOTS) * GRAPH_SLOTS
    return rows.longest


def prefill(model, rows: Rows, slots: int) -> Prefill:
    """Run the distinct prompts, packed into `slots` columns, through `model` once."""
    ids, mask = rows.packed(slots, pad=0)
    table = rope_table(model.config, min(slots, model.config.max_position_embeddings))
    positions = positions_from_mask(mask)
    past: tuple[Tensor, ...] = ()
    for start in range(0, slots, CHUNK):
        stop = min(start + CHUNK, slots)
        embeds = model.model.embed_tokens(Tensor(ids[:, start:stop], ms.int32))
        cos, sin = (Tensor(part[positions[:, start:stop]]) for part in table)
        bias = Tensor(causal_bias(mask[:, :stop], stop - start))
        hidden, _, past = model.model(embeds, cos, sin, bias, *past)
    return Prefill(hidden[:, -1], past, mask)
