"""Settings of one generation: a GenerationConfig and overrides, checked and resolved.

The config is the caller's, or the checkpoint's when none is given; an override replaces a field.
What this decoder cannot do is refused by name, never ignored.
"""

import copy
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from transformers.generation.configuration_utils import GenerationConfig

from emu3.errors import InputError, shown
from emu3.mllm.generation.schemes import FIELDS, Scheme, merged, read_scheme
from emu3.mllm.vocabulary import Vocabulary
from emu3.options import MOST_CANDIDATES, MOST_GUIDANCE

# Ours: GenerationConfig takes them from a file only.
GUIDANCE_FLOOR, BEST_OF = "guidance_floor", "best_of"
SMALLEST = 1e-20  # what divides scores or cuts chances: in float32 still far from 0
MOST_COPIES = 4096
DEFAULT_MAX_LENGTH = 20  # transformers' "nobody said anything"
REFUSED = {
    "num_beams": (1, None),
    "num_beam_groups": (1, None),
    "penalty_alpha": (None, 0, 0.0),
    "typical_p": (1, 1.0, None),
    "epsilon_cutoff": (0, 0.0, None),
    "eta_cutoff": (0, 0.0, None),
    "min_p": (None, 0, 0.0),
    "no_repeat_ngram_size": (0, None),
    "encoder_no_repeat_ngram_size": (0, None),
    "encoder_repetition_penalty": (1, 1.0, None),
    "diversity_penalty": (0, 0.0, None),
    "bad_words_ids": (None,),
    "force_words_ids": (None,),
    "constraints": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "sequence_bias": (None,),
    "exponential_decay_length_penalty": (None,),
    "watermarking_config": (None,),
    "prompt_lookup_num_tokens": (None,),
    "dola_layers": (None,),
    "stop_strings": (None,),
    "max_time": (None,),
    "return_dict_in_generate": (False, None),
    "output_scores": (False, None),
    "output_logits": (False, None),
    "output_attentions": (False, None),
    "output_hidden_states": (False, None),
}


@dataclass(frozen=True)
class Settings:
    """What a generation does. `new_tokens` is the ceiling asked for, None = as many as fit.

    Under guidance only tokens are drawn that are, on the prompt alone, at least `guidance_floor`
    times as likely as the likeliest; 0, as everybody else has it, keeps all. Each of a prompt's
    `pictures` is the best of so many candidates.
    """

    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    guidance_scale: float
    guidance_floor: float
    new_tokens: int | None
    min_new_tokens: int
    pictures: int
    best_of: int
    eos: tuple[int, ...]
    pad: int
    repetition_penalty: float
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    scheme: Scheme

    @property
    def copies(self) -> int:
        """Sequences made of a prompt."""
        return self.pictures * self.best_of

    @property
    def inferred_pad(self) -> int | None:
        """The id that is no part of a prompt without a mask; None where it ends answers too."""
        return None if self.pad in self.eos else self.pad

    @property
    def edit_scores(self) -> bool:
        """Whether something here needs every score on the host (`logits_processors`)."""
        least = self.min_new_tokens and self.eos
        return bool(
            self.repetition_penalty != 1 or self.suppressed or self.suppressed_first or least
        )


def resolve_settings(
    stated: GenerationConfig, overrides: dict[str, Any], prompt_length: int, model_config
) -> Settings:
    """Merge and check.

    Args:
        stated: the caller's configuration or the checkpoint's; not changed.
        overrides: fields that replace it.
        prompt_length: columns of input_ids, which max_length and min_length count.
        model_config: gives the vocabulary's size and, where none are stated, pad and eos.

    Raises:
        InputError: an unknown or unsupported field, or a value out of range.
    """
    config = copy.deepcopy(stated)
    for name, value in merged(vars(config), overrides).items():
        setattr(config, name, value)  # GenerationConfig takes them from a file only
    ours = (*FIELDS, GUIDANCE_FLOOR, BEST_OF)
    unknown = [name for name in overrides if name not in ours and not hasattr(config, name)]
    if unknown:
        raise InputError(
            f"generate() does not know {', '.join(sorted(unknown))}; allowed: fields of "
            "GenerationConfig, negative_prompt_ids, negative_prompt_attention_mask, image_size, "
            f"video_size, jit, {', '.join(ours)}"
        )
    # One by one: GenerationConfig.update would refuse and warn in words of its own.
    for name, value in overrides.items():
        if name not in FIELDS:
            setattr(config, name, value)
    for name, idle in REFUSED.items():
        value = getattr(config, name, None)
        if value not in idle:
            raise InputError(
                f"{name} = {value!r} is not supported; allowed: {idle[0]!r}; change {name}"
            )
    return _settings(config, overrides, prompt_length, model_config)


def check_stated(stated: GenerationConfig, model_config) -> None:
    """Look at the values of a checkpoint's own configuration.

    What is not supported passes here: a call may override it, and a training never asks.

    Raises:
        InputError: one of a wrong type or out of range.
    """
    _settings(stated, {}, 0, model_config)


def _settings(
    config: GenerationConfig, overrides: dict[str, Any], prompt_length: int, model_config
) -> Settings:
    number = _Numbers(config)
    least = number.whole("min_new_tokens", 0, 0) or max(
        number.whole("min_length", 0, 0) - prompt_length, 0
    )
    return Settings(
        do_sample=number.flag("do_sample"),
        temperature=number.real("temperature", SMALLEST, 1.0),
        top_k=number.whole("top_k", 0, 0),
        top_p=number.real("top_p", SMALLEST, 1.0, most=1.0),
        guidance_scale=number.real("guidance_scale", 0.0, 1.0, most=MOST_GUIDANCE),
        guidance_floor=number.real(GUIDANCE_FLOOR, 0.0, 0.0, most=1.0),
        new_tokens=_ceiling(number, overrides, prompt_length),
        min_new_tokens=least,
        pictures=number.whole("num_return_sequences", 1, 1, most=MOST_COPIES),
        best_of=number.whole(BEST_OF, 1, 1, most=MOST_CANDIDATES),
        eos=_eos(config, "eos_token_id" in overrides, model_config),
        pad=_pad(config, model_config),
        repetition_penalty=number.real("repetition_penalty", SMALLEST, 1.0, most=1e12),
        suppressed=_ids(config, "suppress_tokens", model_config.vocab_size),
        suppressed_first=_ids(config, "begin_suppress_tokens", model_config.vocab_size),
        scheme=read_scheme(vars(config)),
    )


class _Numbers:
    """Numbers of a configuration within their limits."""

    def __init__(self, config: GenerationConfig) -> None:
        self.config = config

    def flag(self, name: str) -> bool:
        value = getattr(self.config, name, None)
        if value not in (None, False, True):
            raise InputError(f"{name} = {value!r}; allowed: True, False; change {name}")
        return bool(value)

    def whole(
        self, name: str, least: int, default: int | None = None, most: int | None = None
    ) -> int:
        value = getattr(self.config, name, None)
        value = default if value is None else value
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        whole = whole or (isinstance(value, float) and value.is_integer())
        if not whole or value < least or (most and value > most):
            limit = f" up to {most}" if most else ""
            raise InputError(
                f"{name} = {shown(value)}; allowed: whole numbers from {least}{limit}; "
                f"change {name}"
            )
        return int(value)

    def real(self, name: str, least: float, default: float, most: float = 1e30) -> float:
        value = getattr(self.config, name, None)
        value = default if value is None else value
        real = isinstance(value, Real) and not isinstance(value, bool)
        if not real or not least <= value <= most:
            raise InputError(
                f"{name} = {shown(value)}; allowed: numbers from {least:g} to {most:g}; "
                f"change {name}"
            )
        return float(value)


def _ceiling(number: _Numbers, overrides: dict[str, Any], prompt_length: int) -> int | None:
    """New tokens asked for, None for as many as fit; an override wins over what is stated."""
    config = number.config
    asked = overrides.get("max_length") is not None
    if config.max_new_tokens is not None and not (asked and "max_new_tokens" not in overrides):
        return number.whole("max_new_tokens", 1)
    if asked or config.max_length not in (None, DEFAULT_MAX_LENGTH):
        return number.whole("max_length", prompt_length + 1) - prompt_length
    return None


def _ids(config: GenerationConfig, name: str, vocab_size: int) -> tuple[int, ...]:
    """The ids of a field that holds one or a list of them.

    Raises:
        InputError: anything else, or an id outside the vocabulary.
    """
    value = getattr(config, name, None)
    values = [] if value is None else value if isinstance(value, list | tuple) else [value]
    ids = tuple(np.asarray(item).tolist() for item in values)
    if not all(type(i) is int and 0 <= i < vocab_size for i in ids):
        raise InputError(
            f"{name} = {shown(value)}; allowed: whole numbers in 0..{vocab_size - 1}, one or a "
            f"list; change {name}"
        )
    return ids


def _eos(config: GenerationConfig, asked: bool, model_config) -> tuple[int, ...]:
    """Ids that end an answer: config.json's where nothing is stated, none where None is asked for.

    A model without pictures may keep the released ids beyond its vocabulary; they never come up.
    """
    stated, model = config.eos_token_id, model_config.eos_token_id
    if stated == model or (stated is None and not asked):
        several = model if isinstance(model, list | tuple) else [model]
        return tuple(i for i in several if i is not None and i < model_config.vocab_size)
    return _ids(config, "eos_token_id", model_config.vocab_size)


def _pad(config: GenerationConfig, model_config) -> int:
    stated = (config.pad_token_id, model_config.pad_token_id)
    pad = next((v for v in stated if v is not None), Vocabulary.from_config(model_config).pad)
    if not isinstance(pad, Integral) or not 0 <= pad < 2**31:
        raise InputError(f"pad_token_id = {shown(pad)}; allowed: an id; change pad_token_id")
    return int(pad)
