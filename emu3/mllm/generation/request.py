"""One call of generate() understood: rows, grid, settings, seeds, and which processors to call.

Shapes: B prompts, N = B x pictures sequences, T columns of input_ids, n new tokens.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.generation.decoder import Tables
from emu3.mllm.generation.grammar import Grid, make_grid, read_sizes
from emu3.mllm.generation.processors import own_processors, recognise
from emu3.mllm.generation.rows import Rows, make_rows, read_prompts
from emu3.mllm.generation.sampling import SamplerKind, uniforms
from emu3.mllm.generation.schemes import FIELDS, Decoding, fitted
from emu3.mllm.generation.settings import Settings, resolve_settings
from emu3.mllm.generation.step import StepKind
from emu3.mllm.generation.zipar import Schedule, make_schedule
from emu3.mllm.vocabulary import FREE, Vocabulary

OWN_FIELDS = ("negative_prompt_ids", "negative_prompt_attention_mask", "image_size")


@dataclass(frozen=True)
class Request:
    """Everything a generation needs to know before it starts."""

    ids: np.ndarray  # (N, T) int32, as given, each prompt `pictures` times
    rows: Rows
    grid: Grid | None
    settings: Settings
    seeds: tuple[int, ...]  # (N,)
    tables: Tables
    own: list  # processors of ours, then foreign ones
    foreign: list
    schedule: Schedule | None  # of ZipAR

    @property
    def needs_host(self) -> bool:
        """Whether scores must come to the host at every step."""
        return bool(self.own or self.foreign)

    def step_kind(self, vocab_size: int) -> StepKind:
        """What to compile, slots apart."""
        settings = self.settings
        candidates = (0, vocab_size)
        if self.grid is not None and not self.needs_host:
            vocabulary = self.grid.vocabulary
            candidates = (vocabulary.visual_start, vocabulary.visual_end)
        sampler = SamplerKind(
            greedy=not settings.do_sample,
            top_k=settings.top_k if settings.do_sample else 0,
            use_top_p=settings.do_sample and settings.top_p < 1,
        )
        decoding = settings.decoding
        return StepKind(
            rows=len(self.rows.source),
            sequences=len(self.ids),
            slots=0,
            head_range=candidates,
            sampler=sampler,
            log_probs=self.needs_host,
            scheme=decoding.scheme,
            window=self.schedule.window if self.schedule else decoding.window,
            coupling=decoding.coupling,
        )


def make_request(
    model,
    input_ids,
    generation_config=None,
    logits_processor: Iterable | None = None,
    attention_mask=None,
    seed: int | Sequence[int] | None = None,
    overrides: dict | None = None,
) -> Request:
    """Read and check the arguments of generate().

    Raises:
        InputError: any of them is impossible or does not fit the others.
    """
    config = model.config
    overrides = dict(overrides or {})
    own = {name: overrides.pop(name, None) for name in OWN_FIELDS}
    asked = recognise(logits_processor)
    constraint = asked.fields.pop("constraint", None)
    if "negative_prompt_ids" in asked.fields:
        own.update({name: asked.fields.pop(name) for name in OWN_FIELDS[:2]})
        if own["negative_prompt_ids"] is None:
            own["negative_prompt_ids"] = as_numpy(input_ids)[:, -1:]
    overrides |= asked.fields
    prompts = read_prompts(input_ids, attention_mask, config.vocab_size)
    length = as_numpy(input_ids).shape[1]
    settings = resolve_settings(
        model.generation_config if generation_config is None else generation_config,
        overrides,
        length,
        config,
    )
    negatives = _negatives(own, settings, "guidance_scale" in overrides, config.vocab_size)
    rows = make_rows(prompts, negatives, settings.pictures)
    ids = np.repeat(as_numpy(input_ids).astype(np.int32), settings.pictures, 0)
    grid = _grid(constraint, own["image_size"], config, prompts, settings)
    count = _new_tokens(rows, grid, settings, config.max_position_embeddings)
    seeds, streams = _seeds(seed, len(ids))
    uniform = np.stack([uniforms(s, stream, count) for s, stream in zip(seeds, streams)])
    forced = np.full((len(ids), count), FREE, np.int32) if grid is None else grid.forced
    processors = own_processors(settings, length)
    callers = [p.__name__ for p in processors] + [type(p).__name__ for p in asked.others]
    asked_scheme = any(overrides.get(name) is not None for name in FIELDS)
    settings = replace(settings, decoding=_decoding(settings, grid, callers, asked_scheme))
    zipar = settings.decoding.scheme == "zipar"
    return Request(
        ids=ids,
        rows=rows,
        grid=grid,
        settings=settings,
        seeds=seeds,
        tables=Tables(forced, uniform, tuple(zip(seeds, streams))),
        own=processors,
        foreign=asked.others,
        schedule=make_schedule(grid, settings.decoding.zipar_window) if zipar else None,
    )


def _grid(
    constraint, image_size, config, prompts: list[np.ndarray], settings: Settings
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


def _negatives(
    own: dict, settings: Settings, asked: bool, vocab_size: int
) -> list[np.ndarray] | None:
    """Negative prompts when there is guidance.

    A checkpoint's guidance scale speaks of its pictures: without negative prompts it is idle.
    """
    if settings.guidance_scale == 1:
        return None
    if own["negative_prompt_ids"] is None:
        if asked:
            raise InputError(
                f"guidance_scale = {settings.guidance_scale:g} needs negative_prompt_ids; allowed "
                "without them: 1; change guidance_scale or give negative_prompt_ids"
            )
        return None
    mask = own["negative_prompt_attention_mask"]
    return read_prompts(own["negative_prompt_ids"], mask, vocab_size, "negative_prompt_ids")


def _decoding(settings: Settings, grid: Grid | None, callers: list[str], asked: bool) -> Decoding:
    """The decoding of this call. A checkpoint's scheme speaks of its pictures: texts are plain."""
    if grid is None and not asked:
        return Decoding()
    return fitted(settings.decoding, grid, callers)


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


def _seeds(seed: int | Sequence[int] | None, count: int) -> tuple[tuple[int, ...], range | list]:
    """Seed and stream of each sequence: one seed with a stream each, or a seed each.

    Raises:
        InputError: not a whole number, or as many seeds as fit no rule.
    """
    if seed is None:
        seed = secrets.randbits(32)
    try:
        values = [int(value) for value in np.atleast_1d(as_numpy(seed))]
    except (TypeError, ValueError):
        values = []
    if not values or len(values) not in (1, count):
        raise InputError(
            f"seed = {seed!r}; allowed: a whole number, or one for each of {count} sequences; "
            "change --seed"
        )
    if len(values) == count:
        return tuple(values), [0] * count
    return tuple(values) * count, range(count)
