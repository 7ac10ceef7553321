"""Decoding: request, prefill, cache, compiled step, guidance, sampling, events.

`generate` tells the story; `schemes` lists the ways of decoding pictures and their parts.
"""

from emu3.mllm.generation.events import (
    Done,
    Event,
    FrameDone,
    PrefillDone,
    PrefillPart,
    RowDone,
    TextPiece,
)

__all__ = ["Done", "Event", "FrameDone", "PrefillDone", "PrefillPart", "RowDone", "TextPiece"]
