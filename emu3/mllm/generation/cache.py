"""Sizes of the cache of keys and values: slots in buckets, bytes, and what it is stored as.

A cache grows in steps where unused slots cost reading time. Where our kernel decodes, which skips
them, a picture's cache has its last size from the start, and a large one is stored in bfloat16.
"""

from emu3 import runtime
from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.nn.step_kernels import step_attention

SMALLEST = 128
FIRST_TOKENS = 8  # the first cache has room for, where more may follow
CACHE_BYTES_KEPT = 2**28  # between generations
LARGEST_WIDE = 2**30  # bytes of a cache in float32, of stored weights


def bucket(slots: int) -> int:
    """The smallest bucket with at least `slots` slots: 8 sizes per doubling, at most 1/8 waste."""
    step = SMALLEST
    while slots > 16 * step:
        step *= 2
    return -(-slots // step) * step


def skips_unused(stored: bool) -> bool:
    """Whether steps of a model with `stored` weights of 16 or 8 bits skip slots not in use."""
    return stored and step_attention("float32") is not None


def capacities(first: int, last: int, known: bool, skips: bool = False) -> list[int]:
    """Cache sizes to go through, from one that holds `first` slots to one that holds `last`.

    With `known` the last slot is sure to be reached: a short way needs one size only, and on
    Ascend, where each size costs minutes of compiling, any way does, as it does where a step
    `skips` what is not in use. Otherwise sizes double, since an answer may end at any time and
    unused slots cost reading time.
    """
    if known and skips:
        return [-(-last // SMALLEST) * SMALLEST]
    final = bucket(last)
    sizes = [bucket(first)]
    if known and (runtime.on_ascend() or final <= 8 * SMALLEST):
        return [final]
    while sizes[-1] < final:
        sizes.append(min(2 * sizes[-1], final))
    return sizes


def cache_slots(prompt: int, new: int, spare: int, known: bool, skips: bool = False) -> list[int]:
    """Cache sizes for a prompt, new tokens behind it and spare slots; see `capacities`."""
    total = prompt + new + spare
    return capacities(min(total, prompt + spare + FIRST_TOKENS), total, known, skips)


def token_bytes(config: Emu3Config, width: int) -> int:
    """Cache of one token of one row: key and value of every layer."""
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * width


def cache_bytes(config: Emu3Config, rows: int, slots: int, width: int) -> int:
    """Cache of `slots` slots."""
    return rows * slots * token_bytes(config, width)


def cache_form(config: Emu3Config, stored: bool, rows: int, slots: int) -> str:
    """What a cache that grows to `slots` slots is stored as on CPU: "float32" or "bfloat16"."""
    large = cache_bytes(config, rows, slots, 4) > LARGEST_WIDE
    return "bfloat16" if large and skips_unused(stored) else "float32"
