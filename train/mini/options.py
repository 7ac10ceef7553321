"""What the commands of emu3-mini's world and training are told."""

import argparse
from dataclasses import dataclass

from emu3.cli.options import (
    add_numbers,
    below_one,
    non_negative_float,
    non_negative_int,
    positive_int,
    share,
)
from emu3.errors import InputError
from emu3.names import DTYPES
from train.mini.scenes import RATIOS

MOST_CELLS = max(rows * cols for rows, cols in RATIOS.values())
SHORTEST_ROW = 96  # a picture of so many cells, its frame and a caption
TASKS = ("t2i", "vqa")
SCENE_TASKS = (*TASKS, "text")


@dataclass(frozen=True)
class RunOptions:
    """Where a run saves, how often, and when it stops."""

    output: str
    state: str
    save_every: float
    save_dtype: str
    minutes: float
    seed: int


@dataclass(frozen=True)
class StartOptions:
    """What a run starts from."""

    model: str
    add_layers: int
    config: str
    vq_model: str
    tokenizer: str

    def __post_init__(self) -> None:
        if self.add_layers and not self.model:
            raise InputError("--add-layers deepens a trained model; give its folder with --model")
        if not self.model and not self.tokenizer:
            raise InputError(
                "a model from scratch needs words and ids; give a folder with --tokenizer"
            )


@dataclass(frozen=True)
class StepOptions:
    """How many steps, and how large each is."""

    steps: int
    lr: float
    floor: float
    warmup: int
    weight_decay: float
    dropout: float | None
    dropout_tasks: list[str]


@dataclass(frozen=True)
class DrawnOptions:
    """What the batches hold."""

    cycle: int
    vqa_share: int
    small: float
    counts: list[float]
    null_prompt_prob: float
    t2i_batch: int
    t2i_length: int
    t2i_labels: int
    vqa_batch: int
    vqa_length: int
    vqa_labels: int

    def __post_init__(self) -> None:
        if self.vqa_share > self.cycle:
            raise InputError(
                f"{self.vqa_share} steps on questions of a cycle of {self.cycle}; allowed: up to "
                "--cycle; change --vqa-share"
            )
        if not sum(self.counts):
            raise InputError("no pictures to draw; one of --counts must be above 0")
        if self.t2i_length < SHORTEST_ROW or self.t2i_labels < MOST_CELLS:
            raise InputError(
                f"rows of {self.t2i_length} tokens, {self.t2i_labels} labels hold no picture with "
                f"its caption; allowed: from {SHORTEST_ROW}, {MOST_CELLS}; change --t2i-length, "
                "--t2i-labels"
            )


@dataclass(frozen=True)
class LanguageOptions:
    """Of `python -m train.mini`."""

    drawn: DrawnOptions
    step: StepOptions
    start: StartOptions
    run: RunOptions


@dataclass(frozen=True)
class VisionOptions:
    """Of `python -m train.mini.vision_tokenizer`."""

    config: str
    run: RunOptions
    taught: float
    naming: float
    lr: float
    encoder_lr: float
    encoder_steps: int
    steps: int
    batch: int
    encoder_batch: int


@dataclass(frozen=True)
class SceneOptions:
    """Of `python -m train.prepare_scene_data`: what is drawn, and how it becomes codes."""

    vq_model: str
    codes: str
    output: str
    tasks: list[str]
    new: bool
    held_back: int
    seed: int
    scenes: int
    wordings: int
    batch: int

    def __post_init__(self) -> None:
        if self.held_back >= self.scenes:
            raise InputError(
                f"{self.held_back} of {self.scenes} scenes held back; allowed: fewer than "
                "--scenes; change --held-back"
            )


def add_run_options(group: argparse._ArgumentGroup, name: str) -> None:
    """The options of `RunOptions`."""
    add = group.add_argument
    add("--output", default=f"outputs/{name}", help="folder of the trained model")
    add("--state", default=f"outputs/{name}_state.safetensors", help="resume file")
    add("--save-every", type=non_negative_float, default=90, help="seconds between saves of it")
    add("--save-dtype", choices=tuple(DTYPES), default="float16", help="dtype of the saved weights")
    add("--minutes", type=non_negative_float, default=1e9, help="stop (and save) after so many")
    add("--seed", type=non_negative_int, default=0, help="seed of weights and of all that is drawn")


def add_language_options(parser: argparse.ArgumentParser) -> None:
    """The options of `LanguageOptions`."""
    _add_files(parser.add_argument_group("model and files"))
    _add_steps(parser.add_argument_group("steps"))
    _add_drawn(parser.add_argument_group("what is drawn"))


def _add_files(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--model", default="", help="folder to start from; empty = from scratch with --config")
    add("--add-layers", type=non_negative_int, default=0, help="new layers between --model's own")
    add(
        "--config",
        default="configs/emu3_mini.json",
        help="sizes of a model from scratch (without --model)",
    )
    add("--vq-model", default="", help="folder whose codebook a model from scratch starts from")
    add("--tokenizer", default="", help="tokenizer folder; empty = the one of --model")
    add_run_options(group, "language")


def _add_steps(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--steps", type=positive_int, default=9000, help="optimizer steps in all")
    add("--lr", type=non_negative_float, default=1.5e-3, help="peak learning rate")
    add("--floor", type=share, default=0.02, help="last learning rate as a share of the peak")
    add("--warmup", type=non_negative_int, default=100, help="steps of linear warm-up")
    add("--weight-decay", type=non_negative_float, default=0.05, help="decoupled, of matrices")
    add(
        "--dropout",
        type=below_one,
        help="share of activations dropped in training; None = what the model's config states",
    )
    add(
        "--dropout-tasks",
        nargs="+",
        choices=TASKS,
        default=TASKS,
        help="tasks whose steps drop activations",
    )


def _add_drawn(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--cycle", type=positive_int, default=2, help="steps of a cycle over the tasks")
    add("--vqa-share", type=non_negative_int, default=1, help="steps of it that ask questions")
    add("--small", type=share, default=0.0, help="questions' scenes of 4 x 4 to 5 x 4 cells")
    add(
        "--counts",
        type=non_negative_float,
        nargs=3,
        default=[0.2, 0.4, 0.4],
        metavar="SHARE",
        help="pictures of 1, 2 and 3 shapes",
    )
    add("--null-prompt-prob", type=share, default=0.1, help="chance to drop a caption")
    add_numbers(
        group,
        ("--t2i-batch", 32, "pictures a step"),
        ("--t2i-length", 96, "tokens of a T2I row"),
        ("--t2i-labels", 49, "labels a T2I row may hold"),
        ("--vqa-batch", 8, "conversations a step"),
        ("--vqa-length", 320, "tokens of a conversation row"),
        ("--vqa-labels", 96, "labels a conversation row may hold"),
    )
