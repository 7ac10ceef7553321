"""Samples as lists of parts, each given or wanted, and as conversations; how files hold them.

    a prompt        [Given(Text), Wanted(Coded)]      whatever is wanted is supervised
    a conversation  [Message("user", ...), Message("assistant", ...)]      what is answered is

A file holds a JSON text, and the codes of all parts one after the other as one array:

    {"text": "a red car"} {"codes": [4, 8, 8], "fps": 8.0, "wanted": true, "given": 1}
    {"role": "user", "parts": [...]}
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from emu3.errors import InputError
from emu3.images import DEFAULT_FPS
from emu3.mllm.parts import Coded, Message, Text

Plain = Text | Coded


@dataclass(frozen=True, eq=False)
class Given:
    """A part of a prompt that is never supervised."""

    part: Plain


@dataclass(frozen=True, eq=False)
class Wanted:
    """A part that is supervised: a text, or codes from latent frame `given` on.

    Raises:
        InputError: more frames are given than leave one to make.
    """

    part: Plain
    given: int = 0

    def __post_init__(self) -> None:
        frames = self.part.size[0] if isinstance(self.part, Coded) else 1
        if not 0 <= self.given < frames:
            raise InputError(f"{self.given} latent frames given of {frames}; allowed: fewer")


Said = Given | Wanted | Message


def flat(entries: list[Said]) -> Iterator[Plain]:
    """Every part of a sample, in order."""
    for entry in entries:
        yield from entry.parts if isinstance(entry, Message) else [entry.part]


def written(entries: list[Said]) -> tuple[str, np.ndarray]:
    """A sample as its JSON text and its codes (n,) int32."""
    rows = []
    for entry in entries:
        if isinstance(entry, Message):
            rows.append({"role": entry.role, "parts": [_row(part) for part in entry.parts]})
        elif isinstance(entry, Wanted):
            rows.append(_row(entry.part) | {"wanted": True, "given": entry.given})
        else:
            rows.append(_row(entry.part))
    codes = [part.codes.ravel() for part in flat(entries) if isinstance(part, Coded)]
    return json.dumps(rows, ensure_ascii=False), np.concatenate([np.zeros(0), *codes]).astype(
        np.int32
    )


def _row(part: Plain) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    return {"codes": list(part.codes.shape), "fps": part.fps}


def read(text: object, codes: np.ndarray | None) -> list[Said]:
    """The sample that `written` wrote.

    Raises:
        InputError: texts, shapes or codes that do not fit.
    """
    codes = np.zeros(0, np.int32) if codes is None else codes
    try:
        rows = json.loads(text)
        place = 0

        def take(shape: list[int]) -> np.ndarray:
            nonlocal place
            if not all(type(side) is int and 0 < side < 2**16 for side in shape):
                raise ValueError(f"codes of shape {shape}")
            place, start = place + math.prod(shape), place
            return codes[start:place].reshape(shape)

        entries = [_entry(row, take) for row in rows]
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"its parts are of no form they have: {str(error)[:100]}") from None
    said = {isinstance(entry, Message) for entry in entries}
    if place != len(codes) or len(said) != 1:
        raise InputError(f"its parts take {place} codes of {len(codes)}, or are mixed or none")
    return entries


def _entry(row: dict[str, Any], take: Callable) -> Said:
    if "role" in row:
        return Message(row["role"], tuple(_part(part, take) for part in row["parts"]))
    part = _part(row, take)
    return Wanted(part, int(row.get("given", 0))) if row.get("wanted") else Given(part)


def _part(row: dict[str, Any], take: Callable) -> Plain:
    return Text(row["text"]) if "text" in row else Coded(take(row["codes"]), _rate(row))


def _rate(row: dict[str, Any]) -> float:
    return row.get("fps", DEFAULT_FPS)
