"""A row of ids read back: texts, pictures and clips in it, whole or cut short.

Legend: t h w latent frames, rows and columns.
"""

import itertools
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from emu3.mllm.vocabulary import Vocabulary


def parse(words: "Vocabulary", ids: np.ndarray) -> list[np.ndarray]:
    """Ids (T,) as text runs (1-D ids), pictures (2-D codes) and clips (3-D codes), in order.

    A picture or clip reaches from its first visual id to its last visual id, eol or eof, with its
    head (boi ... img) and eoi when they are there; ids that have no place in it are skipped. What
    follows an eof is its next frame. A last row or frame cut short is dropped unless it is the
    only one; any other of odd length is cut, or filled with its last code or row, to the commonest
    length.
    """
    ids = np.asarray(ids).reshape(-1)
    pieces, done = [], 0
    for start, stop in _grids(words, ids):
        head = _head_start(words, ids, done, start)
        if head > done:
            pieces.append(ids[done:head].astype(np.int32))
        pieces.append(_codes_in(words, ids[start:stop]))
        done = stop + (stop < len(ids) and ids[stop] == words.eoi)
    if done < len(ids):
        pieces.append(ids[done:].astype(np.int32))
    return pieces


def _grids(words: "Vocabulary", ids: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of each grid; markers other than eol and eof part one from the next."""
    visual = words.is_visual(ids)
    inside = visual | (ids == words.eol) | (ids == words.eof)
    bounds = np.isin(ids, (words.pad, words.bos, words.eos, words.img, words.boi, words.eoi))
    edges = [-1, *np.flatnonzero(bounds).tolist(), len(ids)]
    grids = []
    for low, high in itertools.pairwise(edges):
        first = np.flatnonzero(visual[low + 1 : high])
        if first.size:
            last = np.flatnonzero(inside[low + 1 : high])[-1]
            grids.append((low + 1 + int(first[0]), low + 2 + int(last)))
    return grids


def _head_start(words: "Vocabulary", ids: np.ndarray, low: int, start: int) -> int:
    """Where the block begins whose grid begins at `start`; not before `low`."""
    if start > low and ids[start - 1] == words.img:
        begins = np.flatnonzero(ids[low:start] == words.boi)
        return low + int(begins[-1]) if begins.size else start - 1
    return start


def _codes_in(words: "Vocabulary", grid: np.ndarray) -> np.ndarray:
    """Codes (h, w) or (t, h, w) int32 of a grid's ids."""
    frames = _parts(words, grid, words.eof)
    rows = [_parts(words, frame, words.eol) for frame in frames]
    ended = [[row for row in lines if row[-1] == words.eol] or lines[:1] for lines in rows]
    width = _commonest([words.is_visual(row).sum() for lines in ended for row in lines])
    made = [_matrix(words, lines, width) for lines in rows]
    whole = [frame[-1] == words.eof for frame in frames]
    height = _commonest([len(m) for m, end in zip(made, whole) if end] or [len(made[0])])
    if len(made) > 1 and not whole[-1] and len(made[-1]) < height:
        made = made[:-1]
    return made[0] if len(made) == 1 else np.stack([_fitted(frame, height) for frame in made])


def _parts(words: "Vocabulary", ids: np.ndarray, end: int) -> list[np.ndarray]:
    """The parts of ids that hold codes, each up to and with its `end`."""
    parts = np.split(ids, np.flatnonzero(ids == end) + 1)
    return [part for part in parts if words.is_visual(part).any()]


def _matrix(words: "Vocabulary", lines: list[np.ndarray], width: int) -> np.ndarray:
    """Codes (h, width) of a frame's rows of ids."""
    rows = [words.codes_of(line[words.is_visual(line)]) for line in lines]
    if len(rows) > 1 and lines[-1][-1] != words.eol and len(rows[-1]) < width:
        rows = rows[:-1]
    return np.stack([_fitted(row, width) for row in rows])


def _commonest(lengths: list[int]) -> int:
    return int(np.bincount(lengths).argmax())


def _fitted(lines: np.ndarray, length: int) -> np.ndarray:
    """`lines` cut, or filled with the last one, to `length`."""
    missing = [(0, max(length - len(lines), 0))] + [(0, 0)] * (lines.ndim - 1)
    return np.pad(lines[:length], missing, mode="edge")
