"""What the training of the vision tokenizer is told."""

from dataclasses import dataclass

from emu3.options import non_negative_float, option, whole
from train.mini.options import MOST_ROWS, MOST_STEPS, RunOptions, run_of


@dataclass(frozen=True)
class VisionOptions:
    """Of `python -m train.mini.vision`."""

    config: str = option("sizes", "configs/emu3_mini_vision.json")
    model: str = option("folder to take the first weights from; empty = from scratch", "")
    run: RunOptions = run_of("mini/vision")
    threads: int | None = option("CPU threads (default: all cores)", None, whole(1, 1024))
    lr: float = option("peak learning rate", 2e-3, non_negative_float)
    apart_steps: int = option(
        "steps of encoder and decoder, each by itself", 7200, whole(0, MOST_STEPS)
    )
    both_steps: int = option("then, straight through the codes", 150, whole(0, MOST_STEPS))
    draw_steps: int = option("then, of the decoder alone", 8000, whole(0, MOST_STEPS))
    name_steps: int = option("then, of the encoder alone", 0, whole(0, MOST_STEPS))
    whole_steps: int = option(
        "last steps of each by itself, on whole pictures instead of 5 x 5 cells",
        700,
        whole(0, MOST_STEPS),
    )
    names: int = option(
        "pictures a step of naming; half as many whole ones", 8, whole(1, MOST_ROWS)
    )
    draws: int = option("clips a step of drawing; half as many whole ones", 2, whole(1, MOST_ROWS))
    frames: int = option("frames of each that are drawn", 2, whole(1, 12))
