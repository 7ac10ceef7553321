"""The vision side of Emu3: pixels to codes and back."""

from emu3.tokenizer.configuration_emu3visionvq import Emu3VisionVQConfig
from emu3.tokenizer.image_processing_emu3visionvq import Emu3VisionVQImageProcessor
from emu3.tokenizer.modeling_emu3visionvq import Emu3VisionVQModel
from emu3.tokenizer.tiles import TiledVision

__all__ = [
    "Emu3VisionVQConfig",
    "Emu3VisionVQImageProcessor",
    "Emu3VisionVQModel",
    "TiledVision",
]
