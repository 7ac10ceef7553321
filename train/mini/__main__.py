"""Train emu3-mini's language model on scenes drawn as it goes: `python -m train.mini`.

Stopping loses at most the steps since the last save; the same command goes on.
"""

from emu3.cli.shell import command, leave
from train.mini.options import LanguageOptions


def run(options: LanguageOptions) -> None:
    """Train on this machine's CPU."""
    from emu3 import runtime
    from train.mini.training import train

    runtime.setup(device="CPU", mode="graph", seed=options.run.seed)
    train(options)


build_parser, main = command(
    "train.mini", "Train emu3-mini's language model on scenes.", LanguageOptions, run
)

if __name__ == "__main__":
    leave(main())
