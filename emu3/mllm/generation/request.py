"""One generation understood and checked: prompts, grid, settings, seeds, processors to call.

    what a person gives   ids or rows of ids, settings, sizes, seeds
    Request               checked once, kept, run as often as one likes

Shapes: B prompts, N = B x copies sequences, T columns of input_ids, n new tokens.
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.generation.logits_processors import Recognised, own_processors, recognise
from emu3.mllm.generation.prefill import (
    Rows,
    empty_negative,
    kept_tokens,
    make_rows,
    read_ids,
)
from emu3.mllm.generation.schemes import FIELDS, Plain, fitted
from emu3.mllm.generation.settings import BEST_OF, Settings, resolve_settings
from emu3.mllm.grammar import ClipTooLong, Grid, frames_that_fit, make_grid, read_sizes
from emu3.mllm.vocabulary import FREE, Vocabulary

if TYPE_CHECKING:
    from emu3.mllm.configuration_emu3 import Emu3Config

NEGATIVE, NEGATIVE_MASK = "negative_prompt_ids", "negative_prompt_attention_mask"
SCALING = "rope_scaling={'type': 'dynamic', 'factor': 2.0}"
TOKEN_TYPES = "token_type_ids"  # transformers' tokenizers give them; there is one type here
OWN_FIELDS = (NEGATIVE, NEGATIVE_MASK, "image_size", "video_size", TOKEN_TYPES)


@dataclass(frozen=True)
class Request:
    """Everything a generation needs to know before it starts."""

    ids: np.ndarray  # (N, T) int32, as given, each prompt `copies` times
    rows: Rows
    against: list[np.ndarray]  # prompts that say nothing of a picture, see `choosing`; 1 or B
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
    def picture_sizes(self) -> list[tuple[int, int]]:
        """Latent (rows, columns) of each picture that is returned."""
        return [(int(h), int(w)) for _, h, w in self.grid.sizes[:: self.settings.best_of]]

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
    if own[TOKEN_TYPES] is not None and as_numpy(own[TOKEN_TYPES]).any():
        raise InputError(
            f"{TOKEN_TYPES} other than 0 mean nothing to this model; leave {TOKEN_TYPES} out"
        )
    constraint = asked.fields.pop("constraint", None)
    if NEGATIVE in asked.fields:
        own |= {name: asked.fields.pop(name) for name in (NEGATIVE, NEGATIVE_MASK)}
        if own[NEGATIVE] is None:
            own[NEGATIVE] = as_numpy(input_ids)[:, -1:]
    overrides |= asked.fields
    ids, mask = read_ids(input_ids, attention_mask, config.vocab_size, "input_ids")
    stated = model.generation_config if generation_config is None else generation_config
    settings = resolve_settings(stated, overrides, ids.shape[1], config)
    given = attention_mask is not None
    prompts = kept_tokens(ids, mask, given, settings.inferred_pad, "input_ids")
    sizes = _sizes(own["image_size"], own["video_size"])
    grid = _grid(constraint, sizes, config, prompts, settings)
    negatives = _negatives(own, settings, grid, prompts, config)
    settings = _with_best_of(settings, overrides, grid, negatives)
    guided = _is_guided(settings, "guidance_scale" in overrides, negatives)
    rows = make_rows(prompts, negatives if guided else None, settings.copies)
    count = _new_tokens(rows, grid, settings, config)
    processors = own_processors(settings, ids.shape[1]) if settings.edit_scores else []
    callers = [p.__name__ for p in processors] + [type(p).__name__ for p in asked.others]
    # A checkpoint's scheme speaks of its pictures: texts are plain.
    text = grid is None and all(overrides.get(name) is None for name in FIELDS)
    scheme = Plain() if text else fitted(settings.scheme, grid, callers)
    seeds, streams = _seeds(seed, len(prompts) * settings.pictures, settings.best_of)
    return Request(
        ids=np.repeat(ids, settings.copies, 0),
        rows=rows,
        against=negatives or [],
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


def _with_best_of(
    settings: Settings,
    asked: dict[str, Any],
    grid: Grid | None,
    negatives: list[np.ndarray] | None,
) -> Settings:
    """The settings, with one candidate where all were alike and where nothing tells which is best.

    A checkpoint's `best_of` speaks of its pictures: for texts it is idle.

    Raises:
        InputError: somebody asked for the best of several answers, or of pictures without boi.
    """
    can_be = grid is not None and negatives is not None
    if settings.best_of > 1 and not can_be and asked.get(BEST_OF) is not None:
        raise InputError(
            f"{BEST_OF} = {settings.best_of} is for pictures and clips that begin with boi; "
            f"allowed elsewhere: 1; change {BEST_OF} (--best-of)"
        )
    alike = not settings.do_sample or settings.top_k == 1
    return settings if can_be and not alike else replace(settings, best_of=1)


def refuse_streamer(request: Request) -> None:
    """Refuse a streamer where the best of several is chosen at the end.

    Raises:
        InputError: it is.
    """
    if request.settings.best_of > 1:
        raise InputError(
            f"a streamer cannot show the best of {request.settings.best_of} before they are "
            f"whole; allowed with it: {BEST_OF} = 1; change {BEST_OF} or use stream(), whose "
            "CandidateRow events show the first"
        )


def _negatives(
    own: dict[str, Any],
    settings: Settings,
    grid: Grid | None,
    prompts: list[np.ndarray],
    config: "Emu3Config",
) -> list[np.ndarray] | None:
    """Negative prompts, one or one each: those given, else of pictures the empty ones.

    None without either, and where neither guidance nor a choice among several needs them.
    """
    if settings.guidance_scale == 1 and settings.best_of == 1:
        return None
    if own[NEGATIVE] is not None:
        ids, mask = read_ids(own[NEGATIVE], own[NEGATIVE_MASK], config.vocab_size, NEGATIVE)
        given = own[NEGATIVE_MASK] is not None
        return kept_tokens(ids, mask, given, settings.inferred_pad, NEGATIVE)
    empty = [] if grid is None else [empty_negative(grid.vocabulary, p) for p in prompts]
    return None if not empty or any(negative is None for negative in empty) else empty


def _is_guided(settings: Settings, asked: bool, negatives: list[np.ndarray] | None) -> bool:
    """Whether there is guidance. A checkpoint's speaks of its pictures: for texts it is idle.

    Raises:
        InputError: somebody asked for it where there is nothing to steer away from.
    """
    if settings.guidance_scale != 1 and negatives is None and asked:
        raise InputError(
            f"guidance_scale = {settings.guidance_scale:g} needs negative_prompt_ids; allowed "
            "without them: 1, or prompts whose picture begins with boi; change guidance_scale or "
            "give negative_prompt_ids"
        )
    return settings.guidance_scale != 1 and negatives is not None


def _sizes(image_size, video_size) -> np.ndarray | None:
    """Latent frames, rows and columns that are asked for, (1 or B, 3); None for text.

    Raises:
        InputError: both are, or what is no size.
    """
    if image_size is not None and video_size is not None:
        raise InputError("image_size and video_size exclude each other; give one of them")
    if video_size is not None:
        return read_sizes(video_size, "video_size")
    return None if image_size is None else read_sizes(image_size)


def _grid(
    constraint,
    sizes: np.ndarray | None,
    config: "Emu3Config",
    prompts: list[np.ndarray],
    settings: Settings,
) -> Grid | None:
    """The grid of a constraint or of sizes; None for text.

    Where every prompt has its picture whole, up to eoi, sizes tell of that one and are idle.
    """
    if constraint is not None:
        vocabulary = constraint.vocabulary
        pairs = np.stack(np.broadcast_arrays(constraint.heights, constraint.widths), -1)
        sizes = read_sizes(pairs)
    elif sizes is not None:
        vocabulary = Vocabulary.from_config(config)
        tails = [vocabulary.after_img(prompt) for prompt in prompts]
        if all(tail is not None and vocabulary.eoi in tail for tail in tails):
            return None
    else:
        return None
    sizes = np.repeat(sizes, settings.copies, 0) if len(sizes) > 1 else sizes
    copies = [prompt for prompt in prompts for _ in range(settings.copies)]
    return make_grid(vocabulary, sizes, copies, settings.new_tokens)


def _candidates(grid: Grid | None, callers: list[str], vocab_size: int) -> tuple[int, int]:
    """First and one past the last id that may be sampled: of a picture the visual ones alone."""
    if grid is None or callers:
        return 0, vocab_size
    return grid.vocabulary.visual_start, grid.vocabulary.visual_end


def _new_tokens(rows: Rows, grid: Grid | None, settings: Settings, config: "Emu3Config") -> int:
    """How many tokens to make at most.

    Raises:
        InputError: the prompt, or the prompt and its picture, need more positions than there are.
    """
    longest, positions = rows.longest, config.most_positions
    if longest >= positions:
        raise InputError(
            f"a prompt has {longest} tokens; allowed: up to {positions - 1} with this model "
            "(max_position_embeddings); shorten --prompt or --question, choose a smaller --image, "
            f"or load the model with {SCALING}"
        )
    room = positions - longest
    if grid is None and settings.new_tokens is None:
        usual = config.usual_positions - longest
        return min(usual if usual > 0 else config.max_position_embeddings, room)
    if grid is None:
        return min(settings.new_tokens, room)
    count = grid.forced.shape[1]
    # The last free token is the last one whose successor has to be computed.
    if longest + grid.free_until - 1 > positions:
        raise _too_long(longest, grid, positions)
    return count


def _too_long(longest: int, grid: Grid, positions: int) -> InputError:
    """What is said of pictures or clips that need more positions than there are."""
    frames, height, width = (int(side) for side in grid.sizes.max(0))
    scaled = f"or load the model with {SCALING}"
    start = f"a prompt of {longest} tokens and"
    needs = f"need more than the model's {positions} positions"
    if frames == 1:
        count = grid.forced.shape[1]
        return InputError(
            f"{start} a picture of {count} {needs}; change --image-area, --height, --width or "
            f"--prompt, {scaled}"
        )
    head = longest - int(grid.done.min())
    fitting = frames_that_fit(positions - head, height, width)
    what = f"{start} a clip of {frames} latent frames of {height}x{width} codes {needs}"
    return ClipTooLong(what, fitting, scaled)


def _seeds(seed, count: int, each: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Seed and stream of each sequence: one seed with a stream each, or a seed each.

    Of `each` candidates side by side the first has what it would have alone.

    Raises:
        InputError: not a whole number, or as many seeds as fit no rule.
    """
    if seed is None:
        seed = secrets.randbits(32)
    # As objects, since of [2**63 - 1, 2**63] numpy would make floats.
    values = np.atleast_1d(np.asarray(seed, object)).tolist()
    values = tuple(v.item() if isinstance(v, np.generic) else v for v in values)
    whole = all(type(value) is int and -(2**63) <= value < 2**64 for value in values)
    if not whole or len(values) not in (1, count):
        raise InputError(
            f"seed = {str(seed)[:80]!r}; allowed: a whole number of 64 bits, or one for each of "
            f"{count} sequences; change --seed"
        )
    own = len(values) == count
    seeds, streams = (values, [0] * count) if own else (values * count, range(count))
    apart = 1 if own else count
    further = [stream + number * apart for stream in streams for number in range(each)]
    return tuple(seed for seed in seeds for _ in range(each)), tuple(further)
