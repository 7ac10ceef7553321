"""Train emu3-mini's vision tokenizer on drawn scenes: `python -m train.mini.vision_tokenizer`.

Every thing a cell can show has a code of its own (`train.mini.cells`), so that a language model
need never guess between codes that look alike. First the encoder learns to name those codes while
the decoder learns to draw them; then both are trained together, straight through the encoder's
codes.
"""

from emu3.cli.shell import command, leave
from train.mini.options import VisionOptions


def run(options: VisionOptions) -> None:
    """Train on this machine's CPU."""
    from emu3 import runtime
    from train.mini.vision_training import train

    runtime.setup(device="CPU", mode="graph", seed=options.run.seed)
    train(options)


build_parser, main = command(
    "train.mini.vision_tokenizer",
    "Train emu3-mini's vision tokenizer on drawn scenes.",
    VisionOptions,
    run,
)

if __name__ == "__main__":
    leave(main())
