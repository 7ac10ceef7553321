"""The ids of Emu3's one vocabulary and the layout of pictures and clips, as integer arithmetic.

    block = boi, size text "h*w", img, then the grid's continuation:
    grid  = t frames of (h rows of (w visual ids, eol), then eof), then eoi; generation adds eos

t, h, w are latent frames, rows and columns; a picture is a clip of one latent frame. Rows are
counted over all frames. Ids never become strings here.
"""

from dataclasses import dataclass

import numpy as np

from emu3.errors import InputError
from emu3.mllm.parsing import parse

FREE = -1  # in forced_ids: any visual id may stand here
MARKERS = ("pad", "bos", "eos", "img", "boi", "eoi", "eol", "eof")
MAX_GRID_SIDE = 4096
MAX_FRAMES = 2**16
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
        """What follows img for codes (h, w) or (t, h, w): (t*(h*(w+1)+1)+1,) int32 up to eoi."""
        frames = self.frames_of(codes)
        return np.append(self.frame_ids(frames), np.int32(self.eoi))

    def frame_ids(self, codes: np.ndarray) -> np.ndarray:
        """The ids of whole frames (t, h, w), each ending in eof: (t*(h*(w+1)+1),) int32."""
        t, h, w = codes.shape
        grid = np.full((t, h, w + 1), self.eol, np.int32)
        grid[:, :, :-1] = self.ids_of(codes)
        return np.pad(grid.reshape(t, -1), ((0, 0), (0, 1)), constant_values=self.eof).ravel()

    @staticmethod
    def frames_of(codes: np.ndarray) -> np.ndarray:
        """Codes (h, w) or (t, h, w) as (t, h, w).

        Raises:
            InputError: another shape, or no codes.
        """
        codes = np.asarray(codes)
        if codes.ndim not in (2, 3) or codes.size == 0:
            raise InputError(
                f"VQ codes have shape {codes.shape}; allowed: (rows, columns), or of a clip "
                "(frames, rows, columns)"
            )
        return codes[None] if codes.ndim == 2 else codes

    def image_head(self, size_ids: np.ndarray | list[int]) -> np.ndarray:
        """boi, the ids of the size text, img: 1-D int32."""
        return np.array([self.boi, *size_ids, self.img], np.int32)

    def image_block(self, codes: np.ndarray, size_ids: np.ndarray | list[int]) -> np.ndarray:
        """The whole block of codes (h, w) or (t, h, w): 1-D int32 from boi to eoi."""
        return np.concatenate([self.image_head(size_ids), self.image_body(codes)])

    @staticmethod
    def grid_length(h: int, w: int, t: int = 1) -> int:
        """Tokens from after img to eos inclusive."""
        return t * (h * (w + 1) + 1) + 2

    @staticmethod
    def row_start(h: int, w: int, row: int) -> int:
        """Place after img of the first code of a row."""
        return row * (w + 1) + row // h

    @staticmethod
    def rows_before(h: int, w: int, place: int) -> int:
        """Rows whose codes all stand before a place after img."""
        frames, rest = divmod(place, h * (w + 1) + 1)
        return frames * h + min((rest + 1) // (w + 1), h)

    def check_size(self, h: int, w: int, t: int = 1) -> None:
        """Refuse t latent frames of h x w codes that this vocabulary cannot hold.

        Raises:
            InputError: a number below 1 or absurdly large, or there are no visual ids.
        """
        if not (1 <= h <= MAX_GRID_SIDE and 1 <= w <= MAX_GRID_SIDE):
            raise InputError(
                f"image of {h}x{w} latent rows x columns; allowed: 1..{MAX_GRID_SIDE} each; "
                "change --height, --width, --ratio or --image-area"
            )
        if not 1 <= t <= MAX_FRAMES:
            raise InputError(
                f"clip of {t} latent frames; allowed: 1..{MAX_FRAMES}; change --frames"
            )
        if self.visual_count < 1:
            raise InputError("this model's vocabulary has no visual ids; change --model")

    def forced_ids(self, h: int, w: int, t: int = 1) -> np.ndarray:
        """The id each place after img must hold, FREE where it is visual: 1-D int32.

            row 0    FREE ... FREE eol      w places and the forced end of the line
            ...
            row h-1  FREE ... FREE eol eof  and of the frame; so each of t frames
            ending   eoi eos

        Raises:
            InputError: as `check_size`.
        """
        self.check_size(h, w, t)
        frame = np.full((h, w + 1), FREE, np.int32)
        frame[:, -1] = self.eol
        frame = np.append(frame, np.int32(self.eof))
        return np.concatenate([np.tile(frame, t), np.array([self.eoi, self.eos], np.int32)])

    def after_img(self, ids: np.ndarray) -> np.ndarray | None:
        """What follows the last img token of `ids` (T,), where a grid begins; None without one."""
        begins = np.flatnonzero(ids == self.img)
        return ids[begins[-1] + 1 :] if begins.size else None

    def parse_images(self, ids: np.ndarray) -> list[np.ndarray]:
        """Text runs (1-D ids), pictures (2-D codes) and clips (3-D codes) in a row of ids (T,)."""
        return parse(self, ids)


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
