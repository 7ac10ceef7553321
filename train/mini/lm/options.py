"""What the training of the language model is told."""

from dataclasses import dataclass

from emu3.errors import InputError
from emu3.names import PRODUCTS
from emu3.options import (
    below_one,
    group,
    non_negative_float,
    option,
    share,
    whole,
)
from train.mini.options import MOST_ROWS, MOST_SCENES, MOST_STEPS, MOST_TOKENS, RunOptions, run_of

LONGEST = 400  # tokens of the longest sample: a clip of five moments with its caption
TASKS = ("picture", "clip", "extension", "edit", "talk", "ask", "ask clip")


@dataclass(frozen=True)
class RowOptions:
    """What the rows of a step hold."""

    rows: int = option("rows a step", 4, whole(1, MOST_ROWS))
    length: int = option("tokens of a row", 512, whole(1, MOST_TOKENS))
    labels: float = option("most labels, as a share of the tokens", 0.65, share)
    small: float = option("share of pictures and clips of few cells at first", 0.9, share)
    shares: tuple[float, ...] = option(
        f"how often a row begins with each task: {', '.join(TASKS)}",
        (0.30, 0.12, 0.05, 0.20, 0.06, 0.19, 0.08),
        non_negative_float,
        nargs=len(TASKS),
        metavar="SHARE",
    )

    def __post_init__(self) -> None:
        if self.length < LONGEST:
            raise InputError(
                f"rows of {self.length} tokens do not hold a clip of five moments; allowed: from "
                f"{LONGEST}; change --length"
            )
        if not sum(self.shares[: len(TASKS) - 2]):
            raise InputError("nothing is made; one of the first --shares must be above 0")


@dataclass(frozen=True)
class LmOptions:
    """Of `python -m train.mini.lm`."""

    config: str = option("sizes", "configs/emu3_mini.json")
    tokenizer: str = option("tokenizer folder", "outputs/mini/tokenizer", metavar="FOLDER")
    model: str = option("folder to take the first weights from; empty = from scratch", "")
    vq_model: str = option(
        "vision tokenizer that sees the pictures of questions and edits", "outputs/mini/vision"
    )
    seen: int = option("pictures that it sees", 3000, whole(0, MOST_SCENES))
    rows: RowOptions = group()
    run: RunOptions = run_of("mini/language")
    threads: int | None = option("CPU threads (default: all cores)", None, whole(1, 1024))
    steps: int = option("optimizer steps in all", 16_000, whole(1, MOST_STEPS))
    lr: float = option("peak learning rate", 1.2e-3, non_negative_float)
    floor: float = option("last learning rate as a share of the peak", 0.02, share)
    warmup: int = option("steps of linear warm-up", 200, whole(0, MOST_STEPS))
    weight_decay: float = option("decoupled, of matrices", 0.1, non_negative_float)
    dropout: float = option("share of activations dropped until --careful", 0.0, below_one)
    products: str = option(
        "what factors of products are rounded to until --careful", "float32", choices=PRODUCTS
    )
    careful: float = option("last share of the steps, without dropout", 0.15, share)
