"""The ids of Emu3's one vocabulary and the layout of an image among them, as integer arithmetic.

    image block = boi, size text "h*w", img, then the grid's continuation:
    grid        = h rows of (w visual ids, eol), then eof, eoi; generation adds eos

h, w are latent rows and columns. Ids never become strings here.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from emu3.errors import InputError

FREE = -1  # in forced_ids: any visual id may stand here
MARKERS = ("pad", "bos", "eos", "img", "boi", "eoi", "eol", "eof")
MAX_GRID_SIDE = 4096
VISUAL_TEMPLATE = "<|visual token {token_id:0>6d}|>"


@dataclass(frozen=True)
class Vocabulary:
    """Special ids and the visual range [visual_start, visual_start + visual_count)."""

    pad: int
    bos: int
    eos: int
    img: int
    boi: int
    eoi: int
    eol: int
    eof: int
    visual_start: int
    visual_count: int

    @classmethod
    def from_config(cls, config) -> "Vocabulary":
        """The vocabulary of an Emu3Config; a text-only tiny config has visual_count 0.

        The first of several eos ids counts, and pads where no pad id is stated.
        """
        visual_start = config.eoi_token_id + 1
        several = isinstance(config.eos_token_id, list | tuple)
        eos = config.eos_token_id[0] if several else config.eos_token_id
        return cls(
            pad=eos if config.pad_token_id is None else config.pad_token_id,
            bos=config.bos_token_id,
            eos=eos,
            img=config.img_token_id,
            boi=config.boi_token_id,
            eoi=config.eoi_token_id,
            eol=config.eol_token_id,
            eof=config.eof_token_id,
            visual_start=visual_start,
            visual_count=max(config.vocab_size - visual_start, 0),
        )

    @classmethod
    def from_tokenizer(cls, tokenizer, visual_template: str = VISUAL_TEMPLATE) -> "Vocabulary":
        """The vocabulary of an Emu3Tokenizer, whose visual tokens follow eoi.

        Raises:
            InputError: the special token file lacks a marker or the visual tokens.
        """
        tokens = {name: getattr(tokenizer, f"{name}_token") for name in MARKERS}
        tokens["visual_start"] = visual_template.format(token_id=0)
        ids = {name: tokenizer.special_ids.get(token) for name, token in tokens.items()}
        missing = [tokens[name] for name, value in ids.items() if value is None]
        if missing or ids["visual_start"] != ids["eoi"] + 1:
            raise InputError(
                f"the special tokens lack, or have out of order: {missing or tokens['eoi']}; "
                f"allowed: {tokens['img']}, {tokens['boi']}, {tokens['eoi']}, then the visual "
                "tokens in order; change the special token file or --model"
            )
        return cls(**ids, visual_count=tokenizer.vocab_size - ids["visual_start"])

    @property
    def visual_end(self) -> int:
        """One past the last visual id."""
        return self.visual_start + self.visual_count

    def is_visual(self, ids: np.ndarray) -> np.ndarray:
        """Where `ids` are visual: bool, same shape."""
        ids = np.asarray(ids)
        return (ids >= self.visual_start) & (ids < self.visual_end)

    def ids_of(self, codes: np.ndarray) -> np.ndarray:
        """Visual ids of VQ codes: int32, same shape.

        Raises:
            InputError: a code is outside the visual range.
        """
        codes = np.asarray(codes)
        if codes.size and (codes.min() < 0 or codes.max() >= self.visual_count):
            raise InputError(
                f"VQ codes {codes.min()}..{codes.max()} do not fit this vocabulary; allowed: "
                f"0..{self.visual_count - 1}; language and vision model must belong together "
                "(--model, --vq-model)"
            )
        return (codes + self.visual_start).astype(np.int32)

    def codes_of(self, ids: np.ndarray) -> np.ndarray:
        """VQ codes of visual ids: int32, same shape.

        Raises:
            InputError: an id is not visual.
        """
        ids = np.asarray(ids)
        if not self.is_visual(ids).all():
            raise InputError(
                f"ids {ids.min()}..{ids.max()} are not all visual; allowed: "
                f"{self.visual_start}..{self.visual_end - 1}"
            )
        return (ids - self.visual_start).astype(np.int32)

    def image_body(self, codes: np.ndarray) -> np.ndarray:
        """What follows img for codes (h, w): (h*(w+1)+2,) int32, ending in eof, eoi."""
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.size == 0:
            raise InputError(f"VQ codes have shape {codes.shape}; allowed: (rows, columns)")
        grid = np.full((codes.shape[0], codes.shape[1] + 1), self.eol, np.int32)
        grid[:, :-1] = self.ids_of(codes)
        return np.concatenate([grid.ravel(), np.array([self.eof, self.eoi], np.int32)])

    def image_head(self, size_ids: np.ndarray | list[int]) -> np.ndarray:
        """boi, the ids of the size text, img: 1-D int32."""
        return np.array([self.boi, *size_ids, self.img], np.int32)

    def image_block(self, codes: np.ndarray, size_ids: np.ndarray | list[int]) -> np.ndarray:
        """The whole block of an image with codes (h, w): 1-D int32 from boi to eoi."""
        return np.concatenate([self.image_head(size_ids), self.image_body(codes)])

    @staticmethod
    def grid_length(h: int, w: int) -> int:
        """Tokens from after img to eos inclusive."""
        return h * (w + 1) + 3

    def check_size(self, h: int, w: int) -> None:
        """Refuse a picture of h x w codes that this vocabulary cannot hold.

        Raises:
            InputError: a side is below 1 or absurdly large, or there are no visual ids.
        """
        if not (1 <= h <= MAX_GRID_SIDE and 1 <= w <= MAX_GRID_SIDE):
            raise InputError(
                f"image of {h}x{w} latent rows x columns; allowed: 1..{MAX_GRID_SIDE} each; "
                "change --height, --width, --ratio or --image-area"
            )
        if self.visual_count < 1:
            raise InputError("this model's vocabulary has no visual ids; change --model")

    def forced_ids(self, h: int, w: int) -> np.ndarray:
        """The id each place after img must hold, FREE where it is visual: (h*(w+1)+3,) int32.

            row 0    FREE ... FREE eol      w places and the forced end of the line
            ...
            row h-1  FREE ... FREE eol
            ending   eof eoi eos

        Raises:
            InputError: as `check_size`.
        """
        self.check_size(h, w)
        grid = np.full((h, w + 1), FREE, np.int32)
        grid[:, -1] = self.eol
        return np.concatenate([grid.ravel(), np.array([self.eof, self.eoi, self.eos], np.int32)])

    def after_img(self, ids: np.ndarray) -> np.ndarray | None:
        """What follows the last img token of `ids` (T,), where a grid begins; None without one."""
        begins = np.flatnonzero(ids == self.img)
        return ids[begins[-1] + 1 :] if begins.size else None

    def parse_images(self, ids: np.ndarray) -> list[np.ndarray]:
        """Split a row of ids (T,) into text runs (1-D ids) and images (2-D codes), in order.

        An image reaches from its first visual id to its last visual id, eol or eof, with its head
        (boi ... img) and eoi when they are there; ids that have no place in it are skipped. A
        last row cut short is dropped unless it is the only one; any other row of odd length is
        cut, or filled with its last code, to the commonest length.
        """
        ids = np.asarray(ids).reshape(-1)
        pieces, done = [], 0
        for start, stop in self._grids(ids):
            head = self._head_start(ids, done, start)
            if head > done:
                pieces.append(ids[done:head].astype(np.int32))
            pieces.append(self._code_matrix(ids[start:stop]))
            done = stop + (stop < len(ids) and ids[stop] == self.eoi)
        if done < len(ids):
            pieces.append(ids[done:].astype(np.int32))
        return pieces

    def _grids(self, ids: np.ndarray) -> list[tuple[int, int]]:
        """[start, stop) of each grid; markers other than eol and eof part one from the next."""
        visual = self.is_visual(ids)
        inside = visual | (ids == self.eol) | (ids == self.eof)
        bounds = np.isin(ids, (self.pad, self.bos, self.eos, self.img, self.boi, self.eoi))
        edges = [-1, *np.flatnonzero(bounds).tolist(), len(ids)]
        grids = []
        for low, high in itertools.pairwise(edges):
            first = np.flatnonzero(visual[low + 1 : high])
            if first.size:
                last = np.flatnonzero(inside[low + 1 : high])[-1]
                grids.append((low + 1 + int(first[0]), low + 2 + int(last)))
        return grids

    def _head_start(self, ids: np.ndarray, low: int, start: int) -> int:
        """Where the block begins whose grid begins at `start`; not before `low`."""
        if start > low and ids[start - 1] == self.img:
            begins = np.flatnonzero(ids[low:start] == self.boi)
            return low + int(begins[-1]) if begins.size else start - 1
        return start

    def _code_matrix(self, grid: np.ndarray) -> np.ndarray:
        """Codes (h, w) int32 of a grid's ids."""
        lines = np.split(grid, np.flatnonzero(grid == self.eol) + 1)
        lines = [line for line in lines if self.is_visual(line).any()]
        rows = [self.codes_of(line[self.is_visual(line)]) for line in lines]
        ended = [line[-1] == self.eol for line in lines]
        lengths = [len(row) for row, end in zip(rows, ended) if end] or [len(rows[0])]
        width = int(np.bincount(lengths).argmax())
        if len(rows) > 1 and not ended[-1] and len(rows[-1]) < width:
            rows = rows[:-1]
        fitted = [np.pad(row[:width], (0, max(width - len(row), 0)), mode="edge") for row in rows]
        return np.stack(fitted)


def check_same_words(config, tokenizer) -> None:
    """Refuse an Emu3Config and an Emu3Tokenizer whose special or visual ids differ.

    Raises:
        InputError: they do not belong together.
    """
    ours, theirs = Vocabulary.from_config(config), Vocabulary.from_tokenizer(tokenizer)
    stated = [name for name in vars(ours) if name != "pad" or config.pad_token_id is not None]
    differing = [name for name in stated if getattr(ours, name) != getattr(theirs, name)]
    if differing:
        name = differing[0]
        raise InputError(
            f"config.json says {name} {getattr(ours, name)}, the tokenizer's files "
            f"{getattr(theirs, name)}; allowed: files of one checkpoint, whole; fetch them again "
            "or change --model"
        )
