"""The vision side of Emu3: pixels to codes and back."""

from emu3.tokenizer.image_processing_emu3visionvq import Emu3VisionVQImageProcessor

__all__ = ["Emu3VisionVQImageProcessor"]
