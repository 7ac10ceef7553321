"""Train emu3-mini's vision tokenizer on drawn scenes: `python -m train.mini.vision_tokenizer`.

Every thing a cell can show has a code of its own (`train.mini.cells`), so that a language model
need never guess between codes that look alike. First the encoder learns to name those codes while
the decoder learns to draw them; then both are trained together, straight through the encoder's
codes.
"""

from collections.abc import Sequence

from emu3.cli.options import add_numbers, non_negative_float, non_negative_int, share
from emu3.cli.shell import Parser, leave, parser_with_defaults, run_command
from train.mini.options import VisionOptions, add_run_options


def build_parser() -> Parser:
    """Every option with its default."""
    parser = parser_with_defaults("train.mini.vision_tokenizer", __doc__)
    add = parser.add_argument
    add("--config", default="configs/emu3_mini_vision.json", help="sizes")
    add_run_options(parser, "vision")
    add("--taught", type=share, default=0.7, help="first share: encoder and decoder apart")
    add(
        "--naming", type=non_negative_float, default=0.2, help="weight of the loss that names codes"
    )
    add("--lr", type=non_negative_float, default=2e-3, help="peak learning rate")
    add(
        "--encoder-lr",
        type=non_negative_float,
        default=1e-3,
        help="peak learning rate of further steps",
    )
    add(
        "--encoder-steps", type=non_negative_int, default=1000, help="further, of the encoder alone"
    )
    add_numbers(
        parser,
        ("--steps", 2200, "optimizer steps in all"),
        ("--batch", 8, "small pictures a step; later half as many, larger"),
        ("--encoder-batch", 16, "pictures of a further step"),
    )
    return parser


def run(options: VisionOptions) -> None:
    """Train on this machine's CPU."""
    from emu3 import runtime
    from train.mini.vision_training import train

    runtime.setup(device="CPU", mode="graph", seed=options.run.seed)
    train(options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(run, VisionOptions, build_parser(), arguments)


if __name__ == "__main__":
    leave(main())
