"""Logits processors handed to generate(): the two of the reference's loop, and everybody else's.

UnbatchedClassifierFreeGuidanceLogitsProcessor and PrefixConstrainedLogitsProcessor (mindone's or
transformers') are known by class name and attributes, without importing either library, and become
settings of the fast path; so do the warpers that have a setting. Any other one is called at every
step with (input_ids, scores).

Shapes: N sequences, T tokens so far, V vocabulary.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.generation.settings import Settings
from emu3.runtime import device_target

GUIDANCE = "UnbatchedClassifierFreeGuidanceLogitsProcessor"
CONSTRAINT = "PrefixConstrainedLogitsProcessor"
# Class name: attribute and the setting it is. mindone's operators for these have no CPU kernels.
SETTINGS = {
    "TemperatureLogitsWarper": ("temperature", "temperature"),
    "TopKLogitsWarper": ("top_k", "top_k"),
    "TopPLogitsWarper": ("top_p", "top_p"),
    "RepetitionPenaltyLogitsProcessor": ("penalty", "repetition_penalty"),
}
FORBIDDEN = np.float32(-np.inf)
Processor = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Recognised:
    """What a processor list asks for: fields the fast path takes over, and the rest to call."""

    fields: dict
    others: list


def recognise(processors: Iterable | None) -> Recognised:
    """Sort a LogitsProcessorList into fields for the fast path and processors to call.

    `fields` may hold settings by name, negative_prompt_ids, negative_prompt_attention_mask and
    constraint (an object with heights, widths and vocabulary).
    """
    fields, others = {}, []
    for processor in processors or ():
        name = type(processor).__name__
        if name == GUIDANCE and hasattr(processor, "unconditional_context"):
            context = processor.unconditional_context
            fields["guidance_scale"] = processor.guidance_scale
            fields["negative_prompt_ids"] = context["input_ids"]
            fields["negative_prompt_attention_mask"] = context["attention_mask"]
        elif name == CONSTRAINT and _is_grid(getattr(processor, "_prefix_allowed_tokens_fn", None)):
            fields["constraint"] = processor._prefix_allowed_tokens_fn
        elif name in SETTINGS and hasattr(processor, SETTINGS[name][0]):
            attribute, field = SETTINGS[name]
            fields[field] = getattr(processor, attribute)
        else:
            others.append(processor)
    return Recognised(fields, others)


def _is_grid(function) -> bool:
    return all(hasattr(function, name) for name in ("heights", "widths", "vocabulary"))


def own_processors(settings: Settings, prompt_length: int) -> list[Processor]:
    """Processors for the settings that need every logit: penalties and suppressed ids."""
    chain: list[Processor] = []
    if settings.repetition_penalty != 1:
        chain.append(_repetition(settings.repetition_penalty))
    if settings.suppressed:
        chain.append(_suppress(settings.suppressed, 0, None))
    if settings.suppressed_first:
        chain.append(_suppress(settings.suppressed_first, prompt_length, prompt_length + 1))
    if settings.min_new_tokens and settings.eos:
        stop = prompt_length + settings.min_new_tokens
        chain.append(_suppress(settings.eos, 0, stop))
    return chain


def _repetition(penalty: float) -> Processor:
    def repetition_penalty(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        seen = np.take_along_axis(scores, ids, 1)
        seen = np.where(seen < 0, seen * penalty, seen / penalty)
        scores = scores.copy()
        np.put_along_axis(scores, ids, seen.astype(scores.dtype), 1)
        return scores

    return repetition_penalty


def _suppress(tokens: tuple[int, ...], first: int, stop: int | None) -> Processor:
    """Forbid `tokens` while the sequence has first <= T < stop tokens."""

    def suppressed_tokens(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if first <= ids.shape[1] and (stop is None or ids.shape[1] < stop):
            scores = scores.copy()
            scores[:, list(tokens)] = FORBIDDEN
        return scores

    return suppressed_tokens


def apply_foreign(processor: Callable, ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Call somebody else's processor on ids (N, T) and scores (N, V) float32; same shape back.

    transformers' own get torch tensors, every other one MindSpore tensors; one of mindone's whose
    operators have no kernel here gets numpy arrays, which some of them take as well.

    Raises:
        InputError: it needs torch, which is not installed, has no kernels here, or changes the
            shape of the scores.
    """
    name, library = type(processor).__name__, type(processor).__module__.split(".")[0]
    if library == "transformers":
        result = processor(*_torch_tensors(name, ids, scores))
    else:
        result = _on_tensors(processor, ids, scores, library)
    result = as_numpy(result)
    if result.shape != scores.shape:
        raise InputError(
            f"logits processor {name} returned shape {result.shape}; allowed: {scores.shape}"
        )
    return result.astype(np.float32)


def _on_tensors(processor: Callable, ids: np.ndarray, scores: np.ndarray, library: str):
    try:
        return processor(Tensor(ids, ms.int32), Tensor(scores))
    # A missing kernel raises whatever the operator at hand likes.
    except Exception:
        if library != "mindone":
            raise
    try:
        return processor(ids, scores)
    except Exception as error:
        raise InputError(
            f"logits processor {type(processor).__name__} of mindone does not run on "
            f"{device_target()}: {error}; allowed: your own callable on MindSpore tensors"
        ) from None


def _torch_tensors(name: str, ids: np.ndarray, scores: np.ndarray) -> tuple:
    try:
        import torch
    except ImportError:
        raise InputError(
            f"logits processor {name} of transformers needs torch, which is not installed; "
            "allowed without it: mindone's, or your own callable on MindSpore tensors"
        ) from None
    return torch.from_numpy(ids.astype(np.int64)), torch.from_numpy(scores)
