"""Pictures and clips to codes and back: the one way from PIL images through the VQ model.

Legend: b batch, t frames, h w pixels; T, H, W latent frames, rows, columns.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from mindspore import Tensor, int32

from emu3.errors import InputError
from emu3.runtime import graph_mode
from emu3.tokenizer.codes import finished_rows

if TYPE_CHECKING:
    from PIL import Image

    from emu3.tokenizer.image_processing_emu3visionvq import Emu3VisionVQImageProcessor
    from emu3.tokenizer.modeling_emu3visionvq import Emu3VisionVQModel
    from emu3.tokenizer.tiles import TiledVision

GREY = 128


class VisionCodec:
    """An Emu3VisionVQModel, whole or tiled, behind its image processor.

    A batch gives what each item gives alone.
    """

    def __init__(
        self,
        vision: "Emu3VisionVQModel | TiledVision",
        image_processor: "Emu3VisionVQImageProcessor",
    ) -> None:
        self.vision, self.image_processor = vision, image_processor
        self.config = vision.config

    def pixels(self, image: "Image.Image") -> np.ndarray:
        """What the model sees of a picture: float32 (3, h, w).

        Raises:
            InputError: a picture of a size that cannot be coded.
        """
        (array,) = self.image_processor(image)["pixel_values"]
        return array

    def seen(self, pixels: np.ndarray) -> "list[Image.Image]":
        """Pixel values (b, 3, h, w) as the pictures the model is shown."""
        return self.image_processor.postprocess(pixels)["pixel_values"]

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Codes (b, H, W) int32 of pictures (b, 3, h, w)."""
        return self.vision.encode(Tensor(pixels)).asnumpy()

    def encode_each(self, pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes (H, W) of each of several pictures (3, h, w): of one size together, else alone."""
        if len({item.shape for item in pixels}) == 1:
            return list(self.encode(np.stack(pixels)))
        return [self.encode(item[None])[0] for item in pixels]

    def encode_clip(self, pixels: np.ndarray) -> np.ndarray:
        """Codes (T, H, W) of frames (t, 3, h, w), of which the last fills up a latent frame."""
        missing = -len(pixels) % self.config.temporal_downsample_factor
        whole = np.concatenate([pixels, np.repeat(pixels[-1:], missing, axis=0)])
        return self.encode(whole[None])[0]

    def frame_pixels(self, frames: "Iterable[Image.Image]") -> Iterator[np.ndarray]:
        """What the model sees of each of a clip's frames: float32 (3, h, w).

        Raises:
            InputError: frames of several sizes, or of one that cannot be coded.
        """
        first = None
        for number, frame in enumerate(frames):
            pixels = self.pixels(frame)
            size = getattr(frame, "size", pixels.shape)
            first = first or size
            if size != first:
                raise InputError(
                    f"frame {number} of a clip has size {size}, the first {first}; allowed: one "
                    "size; change the clip"
                )
            yield pixels

    def together(self, clip_frames: int | None = None) -> int:
        """Frames of a clip coded together: `clip_frames`, or the config's where nobody says.

        Raises:
            InputError: frames together that do not fill latent frames.
        """
        factor = self.config.temporal_downsample_factor
        count = clip_frames or self.config.clip_frames or factor
        if count % factor:
            raise InputError(
                f"{count} frames coded together; allowed: multiples of {factor}; change "
                "--clip-frames"
            )
        return count

    def clip_codes(
        self, pixels: Iterable[np.ndarray], clip_frames: int | None = None
    ) -> np.ndarray:
        """Codes (T, H, W) of frames (3, h, w), `clip_frames` of them coded together.

        The last frame fills up the last latent frame.

        Raises:
            InputError: frames together that do not fill latent frames.
        """
        pixels, codes = iter(pixels), []
        while chunk := list(itertools.islice(pixels, self.together(clip_frames))):
            codes.append(self.encode_clip(np.stack(chunk)))
        return np.concatenate(codes)

    def pictures(self, codes: np.ndarray) -> "list[Image.Image]":
        """Pictures of whole codes (b, H, W)."""
        return self.seen(self.vision.decode(Tensor(codes, int32)))

    def picture(self, codes: np.ndarray) -> "Image.Image":
        """The picture of codes (H, W), at least one row of them made; what is not stays grey.

        Rows are drawn with the last one once more below it, which is nearer to what will be there
        than the picture's lower edge is; in graph mode, which compiles each height, all are drawn.
        """
        rows = finished_rows(codes)
        if rows == len(codes):
            return self.pictures(codes[None])[0]
        more = len(codes) - rows if graph_mode() else 1
        padded = np.pad(codes[:rows], ((0, more), (0, 0)), mode="edge")
        (drawn,) = self.pictures(padded[None])
        height = drawn.height // len(padded)
        image = drawn.crop((0, 0, drawn.width, height * len(codes)))
        image.paste((GREY, GREY, GREY), (0, height * rows, image.width, image.height))
        return image

    def frames(
        self, codes: np.ndarray, count: int, clip_frames: int | None = None
    ) -> "Iterator[list[Image.Image]]":
        """The first `count` frames of codes (T, H, W), `clip_frames` at a time.

        Where several latent frames are coded together, those before them are in view too, as far
        as the decoder looks back: what is made does not depend on how many are made at a time.
        """
        step = self.together(clip_frames) // self.config.temporal_downsample_factor
        back = self.config.latents_back if step > 1 else 0
        for start in range(0, len(codes), step):
            before = min(back, start)
            part = codes[None, start - before : start + step]
            frames = self.seen(self.vision.decode(Tensor(part, int32), before)[0])[:count]
            count -= len(frames)
            yield frames
