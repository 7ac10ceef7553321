"""Decoding: request, prefill, cache, compiled step, guidance, sampling, events.

`generate` tells the story; `schemes` lists the ways of decoding pictures and their parts.
"""

from emu3.mllm.generation.events import (
    CandidateRow,
    ChoicePart,
    Done,
    Event,
    FrameDone,
    PrefillDone,
    PrefillPart,
    RowDone,
    TextPiece,
)

__all__ = [
    "CandidateRow",
    "ChoicePart",
    "Done",
    "Event",
    "FrameDone",
    "PrefillDone",
    "PrefillPart",
    "RowDone",
    "TextPiece",
]
