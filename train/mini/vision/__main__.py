"""Train emu3-mini's vision tokenizer: `python -m train.mini.vision`.

The encoder learns to name what each cell shows (`train.mini.world.cells`), the decoder to draw
pictures and the frames of clips from names; at last both together, straight through the codes.
Stopping loses at most the steps since the last save; the same command goes on.
"""

from emu3.cli.shell import command, leave
from train.mini.vision.options import VisionOptions


def run(options: VisionOptions) -> None:
    """Train on this machine's CPU."""
    from emu3 import runtime
    from train.mini.vision.training import train

    runtime.setup(device="CPU", mode="graph", threads=options.threads, seed=options.run.seed)
    train(options)


build_parser, main = command(
    "train.mini.vision", "Train emu3-mini's vision tokenizer.", VisionOptions, run
)

if __name__ == "__main__":
    leave(main())
