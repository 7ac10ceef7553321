"""How the commands let one choose how pictures are decoded (docs/decoding.md)."""

import argparse

from emu3.cli import flags


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --decoding, --window, --coupling and --zipar-window."""
    group = parser.add_argument_group("decoding of pictures (docs/decoding.md)")
    group.add_argument(
        "--decoding",
        metavar="NAME",
        help="plain makes one token a run of the network; jacobi several, with the same "
        "distribution; zipar several, LOSSY (default: the checkpoint's, else plain)",
    )
    group.add_argument(
        "--window",
        type=flags.positive_int,
        metavar="L",
        help="places a run takes, jacobi (default: 16, or the picture's tokens)",
    )
    group.add_argument(
        "--coupling",
        metavar="NAME",
        help="how jacobi redraws: none, maximal, gumbel, or fixed for plain's very tokens "
        "(default: maximal)",
    )
    group.add_argument(
        "--zipar-window",
        type=flags.positive_int,
        metavar="S",
        help="tokens a row is ahead of the next, zipar; lossy below the row's width (default: 16)",
    )


def filled_in(options: argparse.Namespace, checkpoint) -> dict:
    """The options of `add_options`, with CheckpointDefaults where the user said nothing."""
    from emu3.mllm.generation.schemes import merged

    return merged(vars(checkpoint), vars(options))


def arguments(options: argparse.Namespace) -> dict:
    """The options of `add_options` as generation settings."""
    from emu3.mllm.generation.schemes import FIELDS

    return {name: getattr(options, name) for name in FIELDS}


def chosen(options: argparse.Namespace):
    """The Decoding that the options ask for; says so when it is lossy.

    Raises:
        InputError: a name or number that is not allowed, or options that do not belong together.
    """
    from emu3.mllm.generation.schemes import read_decoding
    from emu3.runtime import notice

    choice = read_decoding(options)
    if choice.lossy:
        notice(f"--decoding {choice.label}: rows start before the one above is whole")
    return choice
