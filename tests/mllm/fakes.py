"""A picture, and a vision tokenizer that hands out given codes: no VQ weights are needed."""

from types import SimpleNamespace

import mindspore as ms
import numpy as np
from PIL import Image


class FakeVision:
    """Gives the queued codes in turn; decodes a code to a flat 8x8 patch of its value / 10."""

    def __init__(self, codebook_size: int):
        self.config = SimpleNamespace(
            codebook_size=codebook_size, spatial_scale_factor=8, clip_frames=None
        )
        self.queue, self.shapes, self.pixels = [], [], []

    def encode(self, pixels: ms.Tensor) -> ms.Tensor:
        self.shapes.append(pixels.shape)
        self.pixels.append(pixels.asnumpy())
        if self.queue:
            return ms.Tensor(self.queue.pop(0))
        b, _, h, w = pixels.shape
        return ms.ops.zeros((b, h // 8, w // 8), ms.int32)

    def decode(self, codes: ms.Tensor) -> ms.Tensor:
        flat = codes.asnumpy().repeat(8, axis=1).repeat(8, axis=2) / 10
        return ms.Tensor(np.stack([flat] * 3, axis=1), ms.float32)


def picture(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (200, 10, 60))
