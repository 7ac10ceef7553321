"""What a picture's pixels cost: `python -m train.measure.pixels --height 720 --width 720`.

A vision tokenizer of the published sizes, with random weights, turns random codes into pixels.
Prints the seconds, and the peak of memory beside what the estimate says of it.
"""

from dataclasses import dataclass

import numpy as np
from mindspore import Tensor

from emu3 import runtime
from emu3.benchmarks import measure
from emu3.cli import options as shared
from emu3.cli.shell import command, leave
from emu3.errors import gib
from emu3.estimate import WIDTHS, vision_bytes
from emu3.loading import RELEASED, read_configs
from emu3.options import group, option, path_text, positive_int
from emu3.tokenizer import Emu3VisionVQModel


@dataclass(frozen=True)
class Options:
    """Of this command."""

    vq_model: str = option(
        f"sizes: a folder, a JSON file, or {RELEASED}", RELEASED, path_text, metavar="PATH"
    )
    height: int = option("of the picture in pixels", 720, positive_int)
    width: int = option("as --height", 720, positive_int)
    device: shared.Device = group(leave_out=("dtype", "attn_implementation"))


def run(options: Options) -> None:
    """Decode once and print."""
    options.device.start()
    _, config = read_configs(RELEASED, options.vq_model)
    vision = Emu3VisionVQModel(config).set_train(False)
    grid = tuple(side // config.spatial_scale_factor for side in (options.height, options.width))
    codes = np.random.default_rng(0).integers(0, config.codebook_size, (1, *grid), np.int32)
    seconds: list[float] = []

    def decode() -> None:
        seconds.append(measure.timed(lambda: vision.decode(Tensor(codes)).asnumpy()))

    peak = measure.peak_above(decode)
    expected = vision_bytes(config, grid, WIDTHS[str(runtime.resolve_dtype(None)).lower()])
    print(measure.machine())
    print(f"{grid[0]}x{grid[1]} codes to pixels in {seconds[0]:.1f} s")
    print(f"peak memory {gib(peak)} above the weights, {gib(expected)} by the estimate")


build_parser, main = command("train.measure.pixels", "Measure codes to pixels.", Options, run)

if __name__ == "__main__":
    leave(main())
