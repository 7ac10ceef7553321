"""Positions on the host: rotary tables, default position ids, and the additive attention bias.

Shapes: B batch, T new tokens, S tokens in all (cached and new), D head width. Numpy throughout.
"""

import numpy as np

from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.nn.attention import MASKED


def rope_table(config: Emu3Config, length: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin for positions 0..length-1, float32 (length, D), both halves of D alike.

    "linear" divides positions by the factor. "dynamic" (NTK) raises the base with `length` once
    that exceeds max_position_embeddings: the base is that of the table's whole length. A caller
    that extends its table changes the base of new tokens only; keys already rotated keep theirs.
    """
    width, base = config.head_dim, config.rope_theta
    positions = np.arange(length, dtype=np.float32)
    scaling = config.rope_scaling
    if scaling is not None and scaling["type"] == "linear":
        positions = positions / np.float32(scaling["factor"])
    elif scaling is not None and length > config.max_position_embeddings:
        stretch = scaling["factor"] * length / config.max_position_embeddings
        base *= (stretch - (scaling["factor"] - 1)) ** (width / (width - 2))
    exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    frequencies = np.float32(1) / np.power(np.float32(base), exponents)
    angles = np.outer(positions, frequencies)
    angles = np.concatenate((angles, angles), axis=-1)
    return np.cos(angles), np.sin(angles)


def positions_from_mask(mask: np.ndarray) -> np.ndarray:
    """Positions counted over kept tokens: mask (B, S), 1 = keep -> int32 (B, S); padding gets 1."""
    positions = np.cumsum(mask, axis=-1, dtype=np.int32) - 1
    return np.where(mask == 0, np.int32(1), positions)


def causal_bias(mask: np.ndarray, new: int) -> np.ndarray:
    """What to add to the scores of the last `new` tokens: float32 (B or 1, 1, new, S).

    `mask` (B, S), 1 = keep; each token sees itself and what stands before it. Without padding the
    rows are alike and one is returned for all.
    """
    total = mask.shape[1]
    seen = np.arange(total) <= np.arange(total - new, total)[:, None]  # (new, S)
    keep = seen[None] if mask.all() else seen[None] & (mask[:, None, :] != 0)
    return np.where(keep, np.float32(0), np.float32(MASKED))[:, None]
