"""What the training of the vision tokenizer is told."""

from dataclasses import dataclass

from emu3.options import non_negative_float, non_negative_int, option, positive_int
from train.mini.options import RunOptions, run_of


@dataclass(frozen=True)
class VisionOptions:
    """Of `python -m train.mini.vision`."""

    config: str = option("sizes", "configs/emu3_mini2_vision.json")
    run: RunOptions = run_of("mini2/vision")
    threads: int | None = option("CPU threads (default: all cores)", None, positive_int)
    lr: float = option("peak learning rate", 2e-3, non_negative_float)
    cut_steps: int = option("steps on cuts of 5 x 5 cells", 2400, positive_int)
    whole_steps: int = option("steps on whole pictures", 350, non_negative_int)
    both_steps: int = option("last steps, straight through the codes", 60, non_negative_int)
    names: int = option("pictures a step of naming; half as many whole ones", 8, positive_int)
    draws: int = option("clips a step of drawing; half as many whole ones", 2, positive_int)
    frames: int = option("frames of each that are drawn", 2, positive_int)
