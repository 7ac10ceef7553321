"""Clips from text or from their first frames, in pieces as long as the model's positions allow.

    ClipOptions, Film, DrawSettings  ->  TextToVideo  -> codes, row by row and frame by frame

    piece 0   given | made made made made             latent frames; a piece is a prompt of its own,
    piece 1               | context | made made       whose context are the last frames before it;
    piece 2                         | context | made  the last one ends early

So memory and the cost of a frame are bounded by a piece, however long a clip becomes.

Legend: t h w latent frames, rows and columns.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from emu3.errors import InputError
from emu3.mllm.generation.events import CandidateRow, Event, FrameDone, RowDone
from emu3.mllm.grammar import ClipTooLong
from emu3.mllm.parts import FASTEST, SLOWEST, Open, Text
from emu3.mllm.vocabulary import MAX_FRAMES
from emu3.options import number, option, whole
from emu3.pipeline import DrawSettings, drawing_request
from emu3.tokenizer.codes import NOT_MADE

if TYPE_CHECKING:
    from PIL import Image

    from emu3.mllm import Emu3ForCausalLM
    from emu3.mllm.defaults import CheckpointDefaults
    from emu3.mllm.generation.request import Request
    from emu3.mllm.prompts import PromptBuilder
    from emu3.tokenizer import VisionCodec

SEEDS_APART = 2**32  # seeds of a clip's pieces, so that clips of neighbouring seeds share none
MOST_PIXEL_FRAMES = MAX_FRAMES


@dataclass(frozen=True)
class ClipOptions:
    """How long a clip is, and in which pieces it is made; all in frames, not latent ones.

    Raises:
        InputError: a context that leaves a piece nothing to make.
    """

    frames: int | None = option(
        "frames to make; behind those of a clip that is extended (default: the checkpoint's)",
        None,
        whole(1, MOST_PIXEL_FRAMES),
    )
    fps: float | None = option(
        "frames a second (default: the extended clip's, else the checkpoint's)",
        None,
        number(SLOWEST, FASTEST),
    )
    piece: int | None = option(
        "frames of a piece, its context counted; memory and cost do not grow beyond it "
        "(default: all at once)",
        None,
        whole(1, MOST_PIXEL_FRAMES),
    )
    context: int | None = option(
        "last frames that a further piece follows from (default: half a piece)",
        None,
        whole(1, MOST_PIXEL_FRAMES),
    )

    def __post_init__(self) -> None:
        if self.context is not None and self.piece is None:
            raise InputError("--context has no effect without --piece; give both or neither")
        if self.context is not None and self.context >= self.piece:
            raise InputError(
                f"--context {self.context} leaves nothing of --piece {self.piece} to make; "
                f"allowed: 1..{self.piece - 1}; change --context"
            )

    def most_frames(self, checkpoint: "CheckpointDefaults") -> int:
        """Frames that are made at one time, of a clip that begins with none."""
        frames = checkpoint.video_frames if self.frames is None else self.frames
        return frames if self.piece is None else min(self.piece, frames)

    def film(
        self,
        prompt: str,
        grid: tuple[int, int],
        seed: int,
        factor: int,
        checkpoint: "CheckpointDefaults",
        given: np.ndarray | None = None,
        fps: float | None = None,
    ) -> "Film":
        """The clip of (h, w) codes to make, behind `given` codes (t, h, w) of `fps`.

        `factor` is frames a latent frame.

        Raises:
            InputError: a piece of too few latent frames to have a context.
        """
        latent = lambda frames: -(-frames // factor)  # noqa: E731
        wanted = checkpoint.video_frames if self.frames is None else self.frames
        begun = 0 if given is None else len(given)
        total = begun + latent(wanted)
        piece = total if self.piece is None else latent(self.piece)
        if piece < min(total, 2):
            raise InputError(
                f"--piece {self.piece} is {piece} latent frame; allowed: from {2 * factor}; change "
                "--piece"
            )
        context = max(1, piece // 2) if self.context is None else latent(self.context)
        if context >= piece < total:
            raise InputError(
                f"--context {self.context} leaves nothing of --piece {self.piece} to make, in "
                f"latent frames of {factor}; allowed: 1..{(piece - 1) * factor}; change --context"
            )
        return Film(
            prompt,
            (total, *grid),
            self.fps or fps or checkpoint.video_fps,
            seed,
            given,
            piece,
            min(context, piece - 1),
            wanted,
            factor,
        )

    def notices(self, factor: int) -> list[str]:
        """What to say of numbers that are not whole latent frames."""
        said = []
        for name in ("frames", "piece", "context"):
            count = getattr(self, name)
            whole_frames = -(-(count or 0) // factor) * factor
            if count and count != whole_frames:
                end = "the last ones are cut off" if name == "frames" else "rounded up"
                said.append(
                    f"--{name} {count}: made as {whole_frames}, whole latent frames of {factor}; "
                    f"{end}"
                )
        return said


@dataclass(frozen=True, eq=False)
class Film:
    """One clip asked for: its prompt, t h w in all, frames a second, and a seed of its own.

    `given` are the codes (t0, h, w) it begins with; it is made in pieces of `piece` latent frames,
    each behind the last `context` of those before it; `frames` are wanted behind those given, of
    which a latent frame holds `factor`.
    """

    prompt: str
    size: tuple[int, int, int]
    fps: float
    seed: int = 0
    given: np.ndarray | None = None
    piece: int | None = None
    context: int = 1
    frames: int | None = None
    factor: int = 1

    @property
    def begun(self) -> int:
        """Latent frames that are given."""
        return 0 if self.given is None else len(self.given)

    def pieces(self) -> Iterator["Piece"]:
        """The pieces it is made in."""
        total, most = self.size[0], self.piece or self.size[0]
        if total <= most:
            yield Piece(0, 0, total, total)
            return
        made, number = self.begun, 0
        while made < total:
            first = max(made - self.context, 0)
            until = min(first + most, total)
            yield Piece(number, first, first + most, until)
            made, number = until, number + 1


@dataclass(frozen=True)
class Piece:
    """Latent frames of a clip that are made in one go, counted over the whole clip.

    It begins with frame `first`, which may be made already, is asked for up to `end`, and made up
    to `until`.
    """

    number: int
    first: int
    end: int
    until: int


class TextToVideo:
    """Films to codes, a piece at a time."""

    def __init__(self, model: "Emu3ForCausalLM", prompts: "PromptBuilder") -> None:
        self.model, self.prompts = model, prompts

    def request(
        self,
        film: Film,
        piece: Piece,
        codes: np.ndarray | None,
        settings: DrawSettings,
        jit: bool | None = None,
    ) -> "Request":
        """The request for a piece of a film behind the codes (t, h, w) it has so far, from the
        piece's first frame on; settings are `filled`.

        Raises:
            InputError: the piece needs more positions than the model has; says what fits.
        """
        there = 0 if codes is None else len(codes)
        _, h, w = film.size
        size = (piece.end - piece.first, h, w)
        begun = codes if there else None
        more = {}
        if piece.until < piece.end:
            row = self.prompts.vocabulary.row_start(h, w, (piece.until - piece.first - there) * h)
            more["max_new_tokens"] = row
        wanted = Open(size, film.fps, begun)
        texts = (film.prompt + settings.suffix, settings.negative_prompt)
        prompts = [self.prompts.prompt([Text(text), wanted]) for text in texts]
        try:
            return drawing_request(
                self.model,
                prompts[:1],
                prompts[1:],
                [(film.seed + piece.number * SEEDS_APART) % 2**63],
                settings,
                jit=jit,
                video_size=[size],
                **more,
            )
        except ClipTooLong as error:
            raise _in_frames(error, film) from None

    def check(self, film: Film, settings: DrawSettings) -> "Request":
        """The request for a film's first piece, which has room for it among the positions.

        Raises:
            InputError: says what fits.
        """
        piece = next(film.pieces())
        return self.request(film, piece, _from(film.given, piece.first), settings)

    def run(
        self,
        film: Film,
        settings: DrawSettings,
        jit: bool | None = None,
        made: np.ndarray | None = None,
    ) -> Iterator[Event]:
        """The events of a film: rows and frames counted over all of it, a `Done` for each piece.

        `made` are codes (t, h, w) of its first frames, those given among them, from an earlier run:
        it goes on behind them as that run would have, by plain decoding and Jacobi's with coupling
        fixed; by others it draws anew, and of several candidates as that run would have where whole
        pieces are made. What is kept in memory is a piece.
        """
        held, start = (film.given if made is None else made), 0  # codes from frame `start` on
        for piece in film.pieces():
            there = start + (0 if held is None else len(held))
            if piece.until <= there:
                continue
            held, start = _from(held, piece.first - start), piece.first
            request = self.request(film, piece, held, settings, jit)
            for event in self.model.run(request):
                if isinstance(event, FrameDone):
                    held = (
                        event.codes[None] if held is None else np.append(held, event.codes[None], 0)
                    )
                if isinstance(event, CandidateRow | RowDone | FrameDone):
                    event = replace(event, frame=event.frame + piece.first)
                yield event

    def codes(self, film: Film, settings: DrawSettings, jit: bool | None = None) -> np.ndarray:
        """The whole codes (t, h, w) of a film, those given among them."""
        codes = np.full(film.size, NOT_MADE, np.int32)
        codes[: film.begun] = 0 if film.given is None else film.given
        for event in self.run(film, settings, jit):
            if isinstance(event, FrameDone):
                codes[event.frame] = event.codes
        return codes


def given_codes(
    frames: "Callable[[], Iterable[Image.Image]]", codec: "VisionCodec"
) -> tuple[np.ndarray, int]:
    """Codes (t, h, w) of a clip to go on with, and how many frames were put before it.

    `frames()` gives it from its first frame on, as often as it is called. Where they do not fill
    latent frames the first one is repeated before them, so that the last ones end as they do.

    Raises:
        InputError: no frame, or frames of several sizes.
    """
    count = sum(1 for _ in frames())
    if not count:
        raise InputError("a clip without frames; allowed: at least one; change --extend")
    added = -count % codec.config.temporal_downsample_factor
    pixels = codec.frame_pixels(
        itertools.chain(itertools.repeat(next(iter(frames())), added), frames())
    )
    return codec.clip_codes(pixels), added


def _in_frames(error: ClipTooLong, film: Film) -> InputError:
    """What fits of a film in frames; a piece has two latent ones at least."""
    fitting = error.fitting
    if fitting >= 2:
        allowed = (
            f"up to {fitting * film.factor} frames ({fitting} latent ones) at once; change "
            "--frames, make it in pieces of so many (--piece)"
        )
    else:
        sides = "--image-area, --height or --width" if film.given is None else "--extend"
        allowed = f"smaller frames; change {sides}"
    return InputError(f"{error.what}; allowed: {allowed}, {error.scaled}")


def _from(codes: np.ndarray | None, first: int) -> np.ndarray | None:
    """Codes from a frame on; None where there is none."""
    return None if codes is None or first >= len(codes) else codes[first:]
