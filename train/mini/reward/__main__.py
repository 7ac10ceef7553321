"""Let emu3-mini learn from its own pictures: `python -m train.mini.reward`.

Stopping loses at most the rounds since the last save; the same command goes on.
"""

from emu3.cli.shell import command, leave
from train.mini.reward.options import RewardOptions


def run(options: RewardOptions) -> None:
    """Train on this machine's CPU."""
    from emu3 import runtime
    from train.mini.reward.training import train

    runtime.setup(device="CPU", threads=options.threads, seed=options.run.seed)
    train(options)


build_parser, main = command(
    "train.mini.reward", "Let emu3-mini learn from its own pictures.", RewardOptions, run
)

if __name__ == "__main__":
    leave(main())
