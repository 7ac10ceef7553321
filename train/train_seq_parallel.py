"""Fine-tune an Emu3 language model: `python -m train.train_seq_parallel --train_data_path DIR`.

Several processes are started by `python -m train.launch -n N train.train_seq_parallel ...`
(or msrun); they share sequences, data, gradients, optimizer state and weights as the options say.
"""

if not __package__:  # started by its path
    import by_path

    by_path.run_as_module(__file__)

from collections.abc import Sequence

from emu3.cli.shell import Interrupted, guarded, leave
from train.tuning.options import Options, parse


def run(options: Options) -> int:
    """Plan or train; returns the exit code: 130 when a signal stopped the run, which is saved."""
    try:
        from train.tuning.run import plan_or_train

        return plan_or_train(options)
    except KeyboardInterrupt:
        raise Interrupted("stopped before the first step") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return guarded(lambda: run(parse(arguments)), "train.train_seq_parallel")


if __name__ == "__main__":
    leave(main())
