"""What `benchmark startup` times: a process up to the first token of its first picture."""

import json
import os
import sys

from emu3.benchmarks.pictures import StartupOptions, loaded
from emu3.cli import options as shared
from emu3.pipeline import DrawSettings, Picture, PictureSize, TextToImage


def first_token(text: str) -> None:
    """Load both models and leave the process when the first token of a picture is there.

    `text` is JSON of `StartupOptions`.
    """
    stated = json.loads(text)
    options = StartupOptions(**stated | {"device": shared.Device(**stated["device"])})
    models = loaded(options)
    defaults, factor = models.defaults, models.codec.config.spatial_scale_factor
    drawing = TextToImage(models.model, models.prompts)
    (size,) = PictureSize().grids(1, defaults.image_area, factor)
    picture = Picture(defaults.example_prompt, size)

    class Leave:
        """A streamer that ends the process at the first new token."""

        def put(self, column) -> None:
            os._exit(0)

    request = drawing.request([picture], DrawSettings().filled(defaults), options.device.jit)
    for _ in models.model.run(request, Leave()):
        pass


if __name__ == "__main__":
    first_token(sys.argv[1])
