"""Codes files (.npz): codes of a picture or a clip and how they were made, checked once, here.

Legend: h w latent rows and columns, T latent frames. A code of -1 was never made.
"""

import io
import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emu3.errors import InputError
from emu3.files import atomic_path, json_fault, require_file
from emu3.tokenizer.codes import NOT_MADE, finished_rows

MOST_CODES_BYTES = 2**29
MOST_SETTINGS_BYTES = 2**24
LARGEST_CODE = 2**31 - 1
# What decoding relies on: a test and what is allowed. All else is kept as it is.
FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "frames": (lambda x: _is_count(x), "a whole number >= 1"),
    "clip_frames": (lambda x: _is_count(x), "a whole number >= 1"),
    "added": (lambda x: x == 0 or _is_count(x), "a whole number >= 0"),
    "given": (lambda x: x == 0 or _is_count(x), "a whole number >= 0"),
    "piece": (lambda x: _is_count(x), "a whole number >= 1"),
    "context": (lambda x: x == 0 or _is_count(x), "a whole number >= 0"),
    "fps": (lambda x: _is_number(x) and 0.01 <= x <= 1000, "a number from 0.01 to 1000"),
}


@dataclass
class Codes:
    """Codes (h, w) of a picture or (T, h, w) of a clip, int32, and how they were made."""

    codes: np.ndarray
    settings: dict = field(default_factory=dict)

    def require_codebook(self, size: int, path: Path) -> None:
        """Refuse codes of another vision tokenizer.

        Raises:
            InputError: names `path`.
        """
        if self.codes.max() >= size:
            raise InputError(
                f"{path} holds code {self.codes.max()}; allowed: below {size}, the codes of the "
                "vision tokenizer; change --vq-model"
            )

    def require_rows(self, path: Path) -> None:
        """Refuse codes of which nothing is finished.

        Raises:
            InputError: names `path`.
        """
        if not finished_rows(self.codes):
            raise InputError(f"{path} holds no finished row yet; there is nothing to decode")

    def save(self, path: Path) -> None:
        """Write an .npz file, whole or not at all."""
        text = json.dumps(self.settings, ensure_ascii=False)
        content = io.BytesIO()  # a full disk would leave numpy's archive open
        np.savez_compressed(content, codes=self.codes, settings=np.array(text))
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> "Codes":
        """Read what `save` wrote.

        Raises:
            InputError: no such file, not one of ours, or larger than any of ours.
        """
        require_file(path, "codes file", "the file")
        try:
            with zipfile.ZipFile(path) as archive:
                codes = _array(archive, "codes", MOST_CODES_BYTES)
                text = str(_array(archive, "settings", MOST_SETTINGS_BYTES))
            settings = json.loads(text)
            json.dumps(settings)  # what is nested too deep for a picture's metadata
        # zipfile, zlib, numpy and json raise nearly anything for a damaged file.
        except Exception as error:
            reason = json_fault(error) or type(error).__name__
            raise InputError(
                f"{path} is no codes file: {reason}; allowed: an .npz the commands saved"
            ) from None
        _check_codes(codes, path)
        _check_settings(settings, path)
        return cls(codes.astype(np.int32), settings)


def _array(archive: zipfile.ZipFile, name: str, most: int) -> np.ndarray:
    """One array of an .npz; nothing is expanded before its size is known to be right."""
    member = archive.getinfo(f"{name}.npy")
    if member.file_size > most:
        raise ValueError(f"{name} take {member.file_size} bytes, allowed are {most}")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{name} are of numpy's format {version}, allowed is (1, 0)")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or size != member.file_size - file.tell():
            raise ValueError(f"{name} are not the {dtype} of shape {shape} that they say")
        content = file.read()
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_columns else "C")


def _check_codes(codes: np.ndarray, path: str | Path) -> None:
    if codes.dtype.kind not in "iu" or codes.ndim not in (2, 3) or not codes.size:
        raise InputError(
            f"{path} holds {codes.dtype} codes of shape {codes.shape}; allowed: whole numbers "
            "(rows, columns) or (frames, rows, columns)"
        )
    for value in (int(codes.min()), int(codes.max())):
        if not NOT_MADE <= value <= LARGEST_CODE:
            raise InputError(
                f"{path} holds code {value}; allowed: {NOT_MADE} to {LARGEST_CODE}; save it again"
            )


def _check_settings(settings: Any, path: str | Path) -> None:
    if not isinstance(settings, dict):
        raise InputError(
            f"{path} holds settings that are a {type(settings).__name__}; allowed: a JSON object"
        )
    for key, value in settings.items():
        if not (0 < len(key) < 80 and key.isascii() and key.isprintable()):
            raise InputError(
                f"{path} holds setting {key[:80]!r}; allowed: names of 1 to 79 ASCII characters"
            )
        fits, allowed = FIELDS.get(key, (lambda _: True, ""))
        if not fits(value):
            raise InputError(f"{path} holds {key} {str(value)[:80]!r}; allowed: {allowed}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31
