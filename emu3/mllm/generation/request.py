"""One generation understood and checked: prompts, grid, settings, seeds, processors to call.

    what a person gives   ids or rows of ids, settings, sizes, seeds
    Request               checked once, kept, run as often as one likes

Shapes: B prompts, N = B x pictures sequences, T columns of input_ids, n new tokens.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.generation.logits_processors import Recognised, own_processors, recognise
from emu3.mllm.generation.prefill import Rows, make_rows
from emu3.mllm.generation.schemes import FIELDS, Plain, fitted
from emu3.mllm.generation.settings import Settings, resolve_settings
from emu3.mllm.grammar import Grid, make_grid, read_sizes
from emu3.mllm.vocabulary import FREE, Vocabulary

if TYPE_CHECKING:
    from emu3.mllm.configuration_emu3 import Emu3Config

NEGATIVE, NEGATIVE_MASK = "negative_prompt_ids", "negative_prompt_attention_mask"
OWN_FIELDS = (NEGATIVE, NEGATIVE_MASK, "image_size")


@dataclass(frozen=True)
class Request:
    """Everything a generation needs to know before it starts."""

    ids: np.ndarray  # (N, T) int32, as given, each prompt `pictures` times
    rows: Rows
    grid: Grid | None  # None for text
    forced: np.ndarray  # (N, n) int32: the id each new place must hold, FREE where it is open
    settings: Settings
    seeds: tuple[int, ...]  # (N,)
    streams: tuple[int, ...]  # (N,): sequences of one seed draw from streams of their own
    candidates: tuple[int, int]  # ids that may be sampled: first, last + 1
    own: list[Callable]  # processors of ours, then other people's
    foreign: list[Callable]
    jit: bool

    @property
    def needs_host(self) -> bool:
        """Whether scores must come to the host at every step."""
        return bool(self.own or self.foreign)


def make_request(
    model,
    input_ids,
    generation_config=None,
    logits_processor: Iterable | None = None,
    attention_mask=None,
    seed: int | Sequence[int] | None = None,
    jit: bool | None = None,
    **overrides: Any,
) -> Request:
    """Read and check the arguments of `GenerationMixin.generate`, whose method this is.

    Raises:
        InputError: any of them is impossible or does not fit the others.
    """
    config: Emu3Config = model.config
    asked = recognise(logits_processor) if logits_processor else Recognised({}, [])
    own = {name: overrides.pop(name, None) for name in OWN_FIELDS}
    constraint = asked.fields.pop("constraint", None)
    if NEGATIVE in asked.fields:
        own |= {name: asked.fields.pop(name) for name in (NEGATIVE, NEGATIVE_MASK)}
        if own[NEGATIVE] is None:
            own[NEGATIVE] = as_numpy(input_ids)[:, -1:]
    overrides |= asked.fields
    prompts, ids = read_prompts(input_ids, attention_mask, config.vocab_size)
    stated = model.generation_config if generation_config is None else generation_config
    settings = resolve_settings(stated, overrides, ids.shape[1], config)
    negatives = _negatives(own, settings, "guidance_scale" in overrides, config.vocab_size)
    rows = make_rows(prompts, negatives, settings.pictures)
    grid = _grid(constraint, own["image_size"], config, prompts, settings)
    count = _new_tokens(rows, grid, settings, config.max_position_embeddings)
    processors = own_processors(settings, ids.shape[1]) if settings.edit_scores else []
    callers = [p.__name__ for p in processors] + [type(p).__name__ for p in asked.others]
    # A checkpoint's scheme speaks of its pictures: texts are plain.
    text = grid is None and all(overrides.get(name) is None for name in FIELDS)
    scheme = Plain() if text else fitted(settings.scheme, grid, callers)
    seeds, streams = _seeds(seed, len(prompts) * settings.pictures)
    return Request(
        ids=np.repeat(ids, settings.pictures, 0),
        rows=rows,
        grid=grid,
        forced=np.full((len(seeds), count), FREE, np.int32) if grid is None else grid.forced,
        settings=replace(settings, scheme=scheme),
        seeds=seeds,
        streams=streams,
        candidates=_candidates(grid, callers, config.vocab_size),
        own=processors,
        foreign=asked.others,
        jit=jit is not False,
    )


def read_prompts(
    ids, mask, vocab_size: int, name: str = "input_ids"
) -> tuple[list[np.ndarray], np.ndarray]:
    """The kept tokens of each prompt, 1-D int32, and all of them as (B, T) int32.

    `ids` are rows of ids, which need no mask, or (B, T) with its mask (B, T).

    Raises:
        InputError: shapes that do not fit, an empty prompt, or an id outside the vocabulary.
    """
    if isinstance(ids, list) and ids and mask is None:
        prompts = [np.asarray(row) for row in ids]
        width = max(map(np.size, prompts))
        ids = np.stack([np.pad(_whole(row, name), (width - row.size, 0)) for row in prompts])
    else:
        ids = _whole(as_numpy(ids), name, 2)
        mask = np.ones(ids.shape, bool) if mask is None else as_numpy(mask) != 0
        if mask.shape != ids.shape:
            raise InputError(
                f"the attention mask of {name} has shape {mask.shape}; allowed: {ids.shape}"
            )
        prompts = [row[keep] for row, keep in zip(ids, mask)]
    prompts = [row.astype(np.int32) for row in prompts]
    for row, prompt in enumerate(prompts):
        if not prompt.size:
            raise InputError(f"row {row} of {name} is empty; allowed: at least one kept token")
        if prompt.min() < 0 or prompt.max() >= vocab_size:
            raise InputError(
                f"row {row} of {name} has ids {prompt.min()}..{prompt.max()}; allowed: "
                f"0..{vocab_size - 1}; tokenizer and model must belong together (--model)"
            )
    return prompts, ids.astype(np.int32)


def _whole(ids: np.ndarray, name: str, axes: int = 1) -> np.ndarray:
    """`ids`, when they are whole numbers on so many axes, at least one on each."""
    if ids.ndim != axes or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f"{name} has shape {ids.shape} and dtype {ids.dtype}; allowed: whole numbers "
            "(batch, tokens), at least one of each"
        )
    return ids


def _negatives(
    own: dict[str, Any], settings: Settings, asked: bool, vocab_size: int
) -> list[np.ndarray] | None:
    """Negative prompts when there is guidance.

    A checkpoint's guidance scale speaks of its pictures: without negative prompts it is idle.
    """
    if settings.guidance_scale == 1:
        return None
    if own[NEGATIVE] is None:
        if asked:
            raise InputError(
                f"guidance_scale = {settings.guidance_scale:g} needs negative_prompt_ids; allowed "
                "without them: 1; change guidance_scale or give negative_prompt_ids"
            )
        return None
    return read_prompts(own[NEGATIVE], own[NEGATIVE_MASK], vocab_size, NEGATIVE)[0]


def _grid(
    constraint, image_size, config: "Emu3Config", prompts: list[np.ndarray], settings: Settings
) -> Grid | None:
    """The grid of a constraint or of image_size; None for text."""
    if constraint is not None:
        vocabulary = constraint.vocabulary
        sizes = np.stack(np.broadcast_arrays(constraint.heights, constraint.widths), -1)
    elif image_size is not None:
        vocabulary, sizes = Vocabulary.from_config(config), read_sizes(image_size)
    else:
        return None
    sizes = np.repeat(sizes, settings.pictures, 0) if len(sizes) > 1 else sizes
    copies = [prompt for prompt in prompts for _ in range(settings.pictures)]
    return make_grid(vocabulary, sizes, copies, settings.new_tokens)


def _candidates(grid: Grid | None, callers: list[str], vocab_size: int) -> tuple[int, int]:
    """First and one past the last id that may be sampled: of a picture the visual ones alone."""
    if grid is None or callers:
        return 0, vocab_size
    return grid.vocabulary.visual_start, grid.vocabulary.visual_end


def _new_tokens(rows: Rows, grid: Grid | None, settings: Settings, positions: int) -> int:
    """How many tokens to make at most.

    Raises:
        InputError: the prompt, or the prompt and its picture, need more positions than there are.
    """
    longest = rows.longest
    if longest >= positions:
        raise InputError(
            f"a prompt has {longest} tokens; allowed: up to {positions - 1} with this model "
            "(max_position_embeddings); shorten --prompt or --question, or choose a smaller --image"
        )
    if grid is None:
        room = positions - longest
        return room if settings.new_tokens is None else min(settings.new_tokens, room)
    count = grid.forced.shape[1]
    # The last free token is the last one whose successor has to be computed.
    if longest + grid.free_until - 1 > positions:
        raise InputError(
            f"a prompt of {longest} tokens and a picture of {count} need more than the model's "
            f"{positions} positions; change --image-area, --height, --width or --prompt"
        )
    return count


def _seeds(seed, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Seed and stream of each sequence: one seed with a stream each, or a seed each.

    Raises:
        InputError: not a whole number, or as many seeds as fit no rule.
    """
    if seed is None:
        seed = secrets.randbits(32)
    try:
        values = tuple(int(value) for value in np.atleast_1d(np.asarray(seed)))
    except (TypeError, ValueError):
        values = ()
    if not values or len(values) not in (1, count):
        raise InputError(
            f"seed = {seed!r}; allowed: a whole number, or one for each of {count} sequences; "
            "change --seed"
        )
    if len(values) == count:
        return values, (0,) * count
    return values * count, tuple(range(count))
