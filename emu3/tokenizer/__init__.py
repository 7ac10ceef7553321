"""The vision side of Emu3: pixels to codes and back."""

from typing import TYPE_CHECKING

from emu3.lazy import lazy_names

if TYPE_CHECKING:
    from emu3.tokenizer.codec import VisionCodec
    from emu3.tokenizer.configuration_emu3visionvq import Emu3VisionVQConfig
    from emu3.tokenizer.image_processing_emu3visionvq import Emu3VisionVQImageProcessor
    from emu3.tokenizer.modeling_emu3visionvq import Emu3VisionVQModel
    from emu3.tokenizer.tiles import TiledVision

__all__ = [
    "Emu3VisionVQConfig",
    "Emu3VisionVQImageProcessor",
    "Emu3VisionVQModel",
    "TiledVision",
    "VisionCodec",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Emu3VisionVQConfig": ".configuration_emu3visionvq",
        "Emu3VisionVQImageProcessor": ".image_processing_emu3visionvq",
        "Emu3VisionVQModel": ".modeling_emu3visionvq",
        "TiledVision": ".tiles",
        "VisionCodec": ".codec",
    },
)
