"""Positions on the host: rotary tables, default position ids, and the additive attention bias.

Shapes: B batch, T new tokens, S tokens in all (cached and new), D head width. Numpy throughout.
"""

import numpy as np

from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.nn.masked import MASKED


def rope_table(config: Emu3Config, length: int) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin for positions 0..length-1, float32 (length, D), both halves of D alike.

    "linear" divides positions by the factor. "dynamic" (NTK) raises the base with `length` once
    that exceeds max_position_embeddings: the base is that of the table's whole length. A caller
    that extends its table changes the base of new tokens only; keys already rotated keep theirs.
    """
    return _table(config, length, _frequencies(config, np.array([[length]])))


def rope_table_of_steps(config: Emu3Config, length: int) -> tuple[np.ndarray, np.ndarray]:
    """As `rope_table`, each row for a token that is the last one when it is made.

    Under "dynamic" scaling the base of row p is that of p + 1 tokens: keys cached before keep the
    base of their own time, as in the reference.
    """
    return _table(config, length, _frequencies(config, np.arange(1, length + 1)[:, None]))


def _table(config: Emu3Config, length: int, frequencies: np.ndarray) -> tuple:
    positions = np.arange(length, dtype=np.float32)[:, None]
    if config.rope_scaling is not None and config.rope_scaling["type"] == "linear":
        positions = positions / np.float32(config.rope_scaling["factor"])
    angles = positions * frequencies
    angles = np.concatenate((angles, angles), axis=-1)
    return np.cos(angles), np.sin(angles)


def _frequencies(config: Emu3Config, lengths: np.ndarray) -> np.ndarray:
    """Angles by position of sequences of `lengths` (L, 1): float32 (L or 1, D/2)."""
    width, scaling = config.head_dim, config.rope_scaling
    limit, base = config.max_position_embeddings, np.array([[float(config.rope_theta)]])
    if scaling is not None and scaling["type"] == "dynamic" and lengths.max() > limit:
        stretch = scaling["factor"] * np.maximum(lengths, limit) / limit
        base = base * (stretch - (scaling["factor"] - 1)) ** (width / (width - 2))
    exponents = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
    # As torch rounds: the power to float32, then its inverse. Numpy's own float32 power is less
    # exact, and one unit in the last place is 5e-4 of an angle at position 9,215.
    powers = np.power(base, exponents.astype(np.float64)).astype(np.float32)
    return np.float32(1) / powers


def positions_from_mask(mask: np.ndarray) -> np.ndarray:
    """Positions counted over kept tokens: mask (B, S), 1 = keep -> int32 (B, S); padding gets 1."""
    positions = np.cumsum(mask, axis=-1, dtype=np.int32) - 1
    return np.where(mask == 0, np.int32(1), positions)


def causal_bias(mask: np.ndarray, new: int) -> np.ndarray:
    """What to add to the scores of the last `new` tokens: float32 (B or 1, 1, new, S).

    `mask` (B, S), 1 = keep; each token sees itself and what stands before it. Padding sees itself
    too: Ascend's attention gives no numbers for a row that drops everything. Without padding the
    rows are alike and one is returned for all.
    """
    total = mask.shape[1]
    own = np.arange(total - new, total)[:, None]
    seen = np.arange(total) <= own  # (new, S)
    keep = seen[None] & (mask[:, None, :] != 0) | (np.arange(total) == own)
    keep = seen[None] if mask.all() else keep
    return np.where(keep, np.float32(0), np.float32(MASKED))[:, None]
