"""What training by reward is told."""

from dataclasses import dataclass

from emu3.bundled import MINI_LANGUAGE, MINI_VISION
from emu3.options import group, non_negative_float, option, positive_float, share, whole
from train.mini.lm.options import RowOptions
from train.mini.options import MOST_ROWS, MOST_STEPS, RunOptions, run_of

MADE = ("picture", "edit", "clip", "extension")


@dataclass(frozen=True)
class RewardOptions:
    """Of `python -m train.mini.reward`."""

    model: str = option(
        "folder of the language model that learns", str(MINI_LANGUAGE), metavar="FOLDER"
    )
    vq_model: str = option(
        "vision tokenizer that draws what is judged", str(MINI_VISION), metavar="FOLDER"
    )
    seen: int = option("pictures that it sees, for edits and questions", 3000, whole(0, MOST_STEPS))
    rows: RowOptions = group(leave_out=("small",))
    run: RunOptions = run_of("mini/rewarded")
    threads: int | None = option("CPU threads (default: all cores)", None, whole(1, 1024))
    rounds: int = option(
        "rounds in all: candidates are made, then learnt from", 300, whole(1, MOST_STEPS)
    )
    asked: tuple[float, ...] = option(
        f"how often a round asks for each: {', '.join(MADE)}",
        (0.6, 0.2, 0.1, 0.1),
        non_negative_float,
        nargs=len(MADE),
        metavar="SHARE",
    )
    prompts: int = option("prompts a round", 32, whole(1, MOST_ROWS))
    candidates: int = option("candidates of each", 8, whole(2, 64))
    temperature: float = option("of the candidates", 1.0, positive_float)
    learnt: int = option("rows of candidates a step", 12, whole(1, MOST_ROWS))
    strength: float = option(
        "how much candidates count beside samples of every task", 1.0, non_negative_float
    )
    lr: float = option("peak learning rate", 1e-4, non_negative_float)
    floor: float = option("last learning rate as a share of the peak", 0.1, share)
    warmup: int = option("rounds of linear warm-up", 5, whole(0, MOST_STEPS))
