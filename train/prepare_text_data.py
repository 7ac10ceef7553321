"""Questions and answers in text alone to features: `python -m train.prepare_text_data`.

Records: {"id", "texts", "response"} or "conversations"; see docs/training_data.md.
"""

import argparse
from collections.abc import Sequence

from emu3.cli import common
from train import preparing


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    return preparing.make_parser(
        "prepare_text_data", "Write text conversations as features for training answers.", "text"
    )


def run(options: argparse.Namespace) -> int:
    """Write the feature folder; returns the exit code."""
    from train.data.records import text_record

    return preparing.prepare(options, text_record)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.run_command(run, build_parser(), arguments)


if __name__ == "__main__":
    common.leave(main())
