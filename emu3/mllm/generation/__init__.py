"""Decoding: static cache, prefill, compiled step, guidance, grid grammar, sampling, events."""

from emu3.mllm.generation.events import Done, Event, PrefillDone, RowDone, TextPiece
from emu3.mllm.generation.mixin import GenerationMixin

__all__ = ["Done", "Event", "GenerationMixin", "PrefillDone", "RowDone", "TextPiece"]
