"""What every door calls: typed settings in, events of a generation or pictures out.

    DrawSettings, PictureSize, Picture   ->  TextToImage     -> codes, row by row
    AskSettings, question, codes         ->  Answers         -> pieces of answers
    pixels                               ->  Reconstruction  -> codes and pixels again

Clips, from text or from their first frames, are made in `films`; edits and conversations in
`talks`.

These objects are given models and hold nothing else: they load nothing, print nothing and write
no files. Settings left None are the checkpoint's own.

Legend: h w latent rows and columns of a picture; t frames.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from emu3.errors import InputError, shown
from emu3.mllm.generation.events import Done, Event, RowDone, TextPiece
from emu3.mllm.generation.schemes import FIELDS, Scheme, merged, read_scheme
from emu3.mllm.grammar import latent_size, read_ratio
from emu3.mllm.vocabulary import MAX_GRID_SIDE
from emu3.options import (
    MOST_CANDIDATES,
    guidance_number,
    option,
    plain_text,
    positive_int,
    probability,
    temperature_number,
    whole,
)
from emu3.tokenizer.codes import NOT_MADE

if TYPE_CHECKING:
    from PIL import Image

    from emu3.mllm import Emu3ForCausalLM
    from emu3.mllm.defaults import CheckpointDefaults
    from emu3.mllm.generation.request import Request
    from emu3.mllm.prompts import PromptBuilder
    from emu3.tokenizer import VisionCodec

LONGEST_RATIO = 20  # characters


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; temperature 0 takes the likeliest."""

    temperature: float | None = option(
        "0 takes the likeliest token, higher is more varied (default: the checkpoint's)",
        None,
        temperature_number,
    )
    top_k: int | None = option(
        "sample among the K likeliest tokens (default: the checkpoint's)", None, positive_int
    )
    top_p: float | None = option(
        "sample among the likeliest tokens that hold this much probability "
        "(default: the checkpoint's)",
        None,
        probability,
    )

    @property
    def arguments(self) -> dict[str, Any]:
        """As settings of a generation."""
        if not self.temperature:
            return {"do_sample": False}
        names = [field.name for field in fields(Sampling)]
        return {"do_sample": True} | {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class DrawSettings(Sampling):
    """How pictures are drawn; the last four are told in docs/decoding.md.

    Raises:
        InputError: a decoding that there is not, or options of another one.
    """

    suffix: str | None = option(
        'added to every prompt as it is; "" for none (default: the checkpoint\'s)',
        None,
        plain_text,
    )
    negative_prompt: str | None = option(
        "what to steer away from (default: the checkpoint's)", None, plain_text
    )
    guidance: float | None = option(
        "how strongly the prompt steers; 1 is without guidance, at half the cost "
        "(default: the checkpoint's)",
        None,
        guidance_number,
    )
    best_of: int | None = option(
        "make so many candidates of each picture and keep the one that, to the model itself, fits "
        "the prompt best (default: the checkpoint's, else 1)",
        None,
        whole(1, MOST_CANDIDATES),
        metavar="N",
    )
    decoding: str | None = option(
        "plain makes one token a run of the network; jacobi several, with the same distribution; "
        "zipar several, LOSSY (default: the checkpoint's, else plain)"
    )
    window: int | None = option("places a run takes, jacobi (default: 16)", None, positive_int)
    coupling: str | None = option(
        "how jacobi redraws: none, maximal, gumbel, or fixed for plain's very tokens "
        "(default: maximal)"
    )
    zipar_window: int | None = option(
        "tokens a row is ahead of the next, zipar; lossy below the row's width (default: 16)",
        None,
        positive_int,
    )

    def __post_init__(self) -> None:
        if self.decoding is not None:
            read_scheme(vars(self))

    def filled(self, checkpoint: "CheckpointDefaults") -> "DrawSettings":
        """These settings, and the checkpoint's where nobody said anything."""
        stated = {
            "suffix": checkpoint.positive_prompt,
            "negative_prompt": checkpoint.negative_prompt,
            "guidance": checkpoint.guidance_scale,
            "temperature": checkpoint.temperature,
            "top_k": checkpoint.top_k,
            "top_p": checkpoint.top_p,
            "best_of": checkpoint.best_of,
        }
        given = {name: value for name, value in vars(self).items() if value is not None}
        return DrawSettings(**stated | given | merged(vars(checkpoint), vars(self)))

    @property
    def scheme(self) -> Scheme:
        """The way of decoding these settings name."""
        return read_scheme(vars(self))

    @property
    def label(self) -> str:
        """How is decoded, in words, and of how many candidates, where there are several."""
        best_of = f", best of {self.best_of}" if (self.best_of or 1) > 1 else ""
        return f"{self.scheme.label}{best_of}"


@dataclass(frozen=True)
class AskSettings(Sampling):
    """How questions are answered: by the likeliest tokens, unless there is a temperature."""

    temperature: float | None = option(
        "0 takes the likeliest token, higher is more varied (default: 0)", 0.0, temperature_number
    )
    max_new_tokens: int = option("longest answer in tokens", 1024, positive_int)

    def filled(self, checkpoint: "CheckpointDefaults") -> "AskSettings":
        """These settings, and the checkpoint's where nobody said anything."""
        top_k = checkpoint.top_k if self.top_k is None else self.top_k
        return replace(
            self, top_k=top_k, top_p=checkpoint.top_p if self.top_p is None else self.top_p
        )


@dataclass(frozen=True)
class PictureSize:
    """Sizes of pictures: ratios, one for all or one each, and an area; or height and width.

    All but ratios are in pixels. Height and width are snapped to the grid of codes.

    Raises:
        InputError: a ratio that is none, or options that exclude each other.
    """

    ratio: list[str] | None = option(
        "width to height, one for all prompts or one a prompt (default: 1:1)", metavar="W:H"
    )
    image_area: int | None = option(
        "size of the picture in pixels, for --ratio (default: the checkpoint's)",
        None,
        positive_int,
        metavar="PIXELS",
    )
    height: int | None = option(
        "instead of ratio and area, snapped to the grid of codes", None, positive_int
    )
    width: int | None = option("as --height", None, positive_int)

    def __post_init__(self) -> None:
        if (self.height is None) != (self.width is None):
            raise InputError("--height and --width belong together; give both or neither")
        if self.height is not None and self.ratio:
            raise InputError("--ratio and --height, --width exclude each other; give one of them")
        if self.height is not None and self.image_area is not None:
            raise InputError("--image-area has no effect beside --height and --width; leave it out")
        for ratio in self.ratio or ():
            if not isinstance(ratio, str) or len(ratio) > LONGEST_RATIO:
                raise InputError(
                    f"ratio {shown(ratio)}; allowed: width:height such as 16:9; change --ratio"
                )
            read_ratio(ratio)

    def grids(self, count: int, image_area: int, factor: int) -> list[tuple[int, int]]:
        """Latent (h, w) of each of `count` pictures; `image_area` where none is stated.

        `factor` is pixels a code along each side.

        Raises:
            InputError: sizes no picture can have, or as many ratios as fit no rule.
        """
        if self.height is not None:
            return [self._snapped(factor)] * count
        ratios, area = list(self.ratio or ["1:1"]), self.image_area or image_area
        if len(ratios) not in (1, count):
            raise InputError(
                f"{len(ratios)} ratios for {count} prompts; allowed: one, or one a prompt; "
                "change --ratio"
            )
        return [latent_size(ratio, area, factor) for ratio in ratios * (count // len(ratios))]

    def snapped_notice(self, factor: int) -> str | None:
        """What to say where height and width are no whole number of codes."""
        if self.height is None:
            return None
        rows, columns = self._snapped(factor)
        if (rows * factor, columns * factor) == (self.height, self.width):
            return None
        return (
            f"height {self.height}, width {self.width} become {rows * factor}, "
            f"{columns * factor}: sides are multiples of {factor} pixels"
        )

    def _snapped(self, factor: int) -> tuple[int, int]:
        rows, columns = (max(1, round(side / factor)) for side in (self.height, self.width))
        if max(rows, columns) > MAX_GRID_SIDE:
            raise InputError(
                f"height {self.height}, width {self.width}; allowed: up to "
                f"{MAX_GRID_SIDE * factor} pixels; change --height or --width"
            )
        return rows, columns


@dataclass(frozen=True)
class Picture:
    """One picture asked for: its prompt, latent rows and columns, and a seed of its own."""

    prompt: str
    size: tuple[int, int]
    seed: int = 0


def drawing_request(
    model: "Emu3ForCausalLM",
    prompts: list[list[int]],
    negatives: list[list[int]],
    seeds: list[int],
    settings: DrawSettings,
    **more: Any,
) -> "Request":
    """The request for a batch to draw: prompts, what guidance steers away from, a seed each.

    `settings` are `filled`; `more` are sizes and further settings of the generation.

    Raises:
        InputError: a prompt and what it asks for are too long, or settings do not fit them.
    """
    arguments = settings.arguments | {name: getattr(settings, name) for name in FIELDS}
    arguments["best_of"] = settings.best_of
    arguments["guidance_scale"] = settings.guidance  # 1 too: else the checkpoint's own counts
    if settings.guidance != 1 or settings.best_of != 1:
        arguments["negative_prompt_ids"] = negatives
    return model.request(prompts, seed=seeds, **arguments, **more)


class TextToImage:
    """Prompts to the codes of pictures, a batch at a time."""

    def __init__(self, model: "Emu3ForCausalLM", prompts: "PromptBuilder") -> None:
        self.model, self.prompts = model, prompts

    def request(
        self, pictures: Sequence[Picture], settings: DrawSettings, jit: bool | None = None
    ) -> "Request":
        """The request for a batch of pictures with settings that are `filled`.

        Raises:
            InputError: a prompt and its picture are too long, or settings do not fit them.
        """
        ids = self.prompts.generation
        return drawing_request(
            self.model,
            [ids(p.prompt + settings.suffix, *p.size) for p in pictures],
            [ids(settings.negative_prompt, *p.size) for p in pictures],
            [p.seed for p in pictures],
            settings,
            jit=jit,
            image_size=[p.size for p in pictures],
        )

    def run(self, request: "Request") -> Iterator[Event]:
        """The events of a request: `RowDone` for each row of codes, at last `Done`."""
        return self.model.run(request)

    def codes(self, request: "Request") -> tuple[list[np.ndarray], Done]:
        """The whole codes (h, w) of each picture of a request, and how they were made."""
        made = [np.full(size, NOT_MADE, np.int32) for size in request.picture_sizes]
        for event in self.run(request):
            if isinstance(event, RowDone):
                made[event.sequence][event.row] = event.codes
        return made, event


class Answers:
    """Questions about pictures to answers, a batch at a time."""

    def __init__(self, model: "Emu3ForCausalLM", prompts: "PromptBuilder") -> None:
        self.model, self.prompts = model, prompts

    def request(
        self,
        questions: Sequence[str],
        codes: Sequence[np.ndarray],
        settings: AskSettings,
        seeds: Sequence[int] | None = None,
        jit: bool | None = None,
        **more: Any,
    ) -> "Request":
        """The request for a batch of questions, each about a picture of codes (h, w).

        `settings` are `filled`; `more` are further settings of the generation.

        Raises:
            InputError: a question and its picture are too long.
        """
        pairs = zip(questions, codes)
        prompts = [self.prompts.understanding(question, item) for question, item in pairs]
        return self.request_of(prompts, settings, seeds, jit, **more)

    def request_of(
        self,
        prompts: list[list[int]],
        settings: AskSettings,
        seeds: Sequence[int] | None = None,
        jit: bool | None = None,
        **more: Any,
    ) -> "Request":
        """`request` of prompts as ids, such as conversations."""
        return self.model.request(
            prompts,
            max_new_tokens=settings.max_new_tokens,
            seed=list(seeds or range(len(prompts))),
            jit=jit,
            **settings.arguments,
            **more,
        )

    def run(self, request: "Request") -> Iterator[Event]:
        """The events of a request: `TextPiece` for ids as they come, at last `Done`."""
        return self.model.run(request)

    def text(self, ids: Iterable[int]) -> str:
        """The answer that ids spell."""
        return self.prompts.tokenizer.decode(list(ids), skip_special_tokens=True)

    def texts(self, request: "Request") -> list[str]:
        """The whole answers of a request."""
        ids: list[list[int]] = [[] for _ in request.seeds]
        for event in self.run(request):
            if isinstance(event, TextPiece):
                ids[event.sequence] += event.ids.tolist()
        return [self.text(row) for row in ids]


class Reconstruction:
    """Pictures and clips to codes and back, `clip_frames` coded together (see `VisionCodec`).

    Raises:
        InputError: frames of a chunk that do not fill latent frames.
    """

    def __init__(self, codec: "VisionCodec", clip_frames: int | None = None) -> None:
        self.codec, self.clip_frames = codec, codec.together(clip_frames)

    def encode_image(self, image: "Image.Image") -> "tuple[np.ndarray, Image.Image]":
        """Codes (h, w) of a picture, and the picture as the model was shown it.

        Raises:
            InputError: a picture of a size that cannot be coded.
        """
        return self.encode_pixels(self.codec.pixels(image))

    def encode_pixels(self, pixels: np.ndarray) -> "tuple[np.ndarray, Image.Image]":
        """`encode_image` of pixel values (3, H, W)."""
        return self.codec.encode(pixels[None])[0], self.codec.seen(pixels[None])[0]

    def image(self, codes: np.ndarray) -> "Image.Image":
        """The picture of codes (h, w)."""
        return self.codec.picture(codes)

    def encode_clip(self, pixels: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
        """Codes (T, h, w) of a clip's frames (3, H, W), a chunk at a time, and its frames."""
        for chunk in in_lists(pixels, self.clip_frames):
            yield self.codec.encode_clip(np.stack(chunk)), len(chunk)

    def frames(self, codes: np.ndarray, count: int) -> "Iterator[Image.Image]":
        """The first `count` frames of a clip of codes (T, h, w)."""
        for chunk in self.codec.frames(codes, count, self.clip_frames):
            yield from chunk


def in_lists(items: Iterable, count: int) -> Iterator[list]:
    """`items` in lists of `count`; the last one may be shorter."""
    held = []
    for item in items:
        held.append(item)
        if len(held) == count:
            yield held
            held = []
    if held:
        yield held
