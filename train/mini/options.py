"""What the commands of emu3-mini's world and training are told."""

from dataclasses import dataclass
from typing import Any

from emu3.bundled import MINI_VISION
from emu3.errors import InputError
from emu3.names import DTYPES
from emu3.options import (
    below_one,
    group,
    non_negative_float,
    non_negative_int,
    option,
    share,
    whole,
)
from train.data.options import shard_size
from train.mini.scenes import RATIOS

MOST_CELLS = max(rows * cols for rows, cols in RATIOS.values())
SHORTEST_ROW = 96  # a picture of so many cells, its frame and a caption
MOST_STEPS, MOST_ROWS, MOST_TOKENS = 10**7, 4096, 2**15
MOST_SCENES, MOST_WORDINGS, MOST_LAYERS = 10**7, 1000, 1000
TASKS = ("t2i", "vqa")
SCENE_TASKS = (*TASKS, "text")


@dataclass(frozen=True)
class RunOptions:
    """Where a run saves, how often, and when it stops."""

    output: str = option("folder of the trained model", "", metavar="FOLDER")
    state: str = option("resume file", "", metavar="FILE")
    save_every: float = option("seconds between saves of it", 90, non_negative_float)
    save_dtype: str = option("dtype of the saved weights", "float16", choices=tuple(DTYPES))
    minutes: float = option("stop (and save) after so many", 1e9, non_negative_float)
    seed: int = option("seed of weights and of all that is drawn", 0, non_negative_int)


def run_of(name: str) -> Any:
    """The `RunOptions` of a model of that name."""
    return group(output=f"outputs/{name}", state=f"outputs/{name}_state.safetensors")


@dataclass(frozen=True)
class StartOptions:
    """What a run starts from."""

    model: str = option("folder to start from; empty = from scratch with --config", "")
    add_layers: int = option("new layers between --model's own", 0, whole(0, MOST_LAYERS))
    config: str = option(
        "sizes of a model from scratch (without --model)", "configs/emu3_mini.json"
    )
    vq_model: str = option("folder whose codebook a model from scratch starts from", "")
    tokenizer: str = option("tokenizer folder; empty = the one of --model", "")

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

    steps: int = option("optimizer steps in all", 9000, whole(1, MOST_STEPS))
    lr: float = option("peak learning rate", 1.5e-3, non_negative_float)
    floor: float = option("last learning rate as a share of the peak", 0.02, share)
    warmup: int = option("steps of linear warm-up", 100, whole(0, MOST_STEPS))
    weight_decay: float = option("decoupled, of matrices", 0.05, non_negative_float)
    dropout: float | None = option(
        "share of activations dropped in training (default: what the model's config states)",
        None,
        below_one,
    )
    dropout_tasks: tuple[str, ...] = option(
        "tasks whose steps drop activations", TASKS, nargs="+", choices=TASKS
    )


@dataclass(frozen=True)
class DrawnOptions:
    """What the batches hold."""

    cycle: int = option("steps of a cycle over the tasks", 2, whole(1, MOST_STEPS))
    vqa_share: int = option("steps of it that ask questions", 1, whole(0, MOST_STEPS))
    small: float = option("questions' scenes of 4 x 4 to 5 x 4 cells", 0.0, share)
    counts: tuple[float, ...] = option(
        "pictures of 1, 2 and 3 shapes",
        (0.2, 0.4, 0.4),
        non_negative_float,
        nargs=3,
        metavar="SHARE",
    )
    null_prompt_prob: float = option("chance to drop a caption", 0.1, share)
    t2i_batch: int = option("pictures a step", 32, whole(1, MOST_ROWS))
    t2i_length: int = option("tokens of a T2I row", 96, whole(1, MOST_TOKENS))
    t2i_labels: int = option("labels a T2I row may hold", 49, whole(1, MOST_TOKENS))
    vqa_batch: int = option("conversations a step", 8, whole(1, MOST_ROWS))
    vqa_length: int = option("tokens of a conversation row", 320, whole(1, MOST_TOKENS))
    vqa_labels: int = option("labels a conversation row may hold", 96, whole(1, MOST_TOKENS))

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

    drawn: DrawnOptions = group()
    step: StepOptions = group()
    start: StartOptions = group()
    run: RunOptions = run_of("language")


@dataclass(frozen=True)
class VisionOptions:
    """Of `python -m train.mini.vision_tokenizer`."""

    config: str = option("sizes", "configs/emu3_mini_vision.json")
    run: RunOptions = run_of("vision")
    taught: float = option("first share: encoder and decoder apart", 0.7, share)
    naming: float = option("weight of the loss that names codes", 0.2, non_negative_float)
    lr: float = option("peak learning rate", 2e-3, non_negative_float)
    encoder_lr: float = option("peak learning rate of further steps", 1e-3, non_negative_float)
    encoder_steps: int = option("further, of the encoder alone", 1000, whole(0, MOST_STEPS))
    steps: int = option("optimizer steps in all", 2200, whole(1, MOST_STEPS))
    batch: int = option("small pictures a step; later half as many, larger", 8, whole(1, MOST_ROWS))
    encoder_batch: int = option("pictures of a further step", 16, whole(1, MOST_ROWS))


@dataclass(frozen=True)
class SceneOptions:
    """Of `python -m train.prepare_scene_data`: what is drawn, and how it becomes codes."""

    vq_model: str = option("vision tokenizer", str(MINI_VISION), metavar="PATH")
    codes: str = option(
        "of the vision tokenizer, or those it is taught to give (train.mini.cells)",
        "encoded",
        choices=("encoded", "named"),
    )
    output: str = option("folder to write", "outputs/scenes", metavar="FOLDER")
    tasks: tuple[str, ...] = option("what to draw", SCENE_TASKS, nargs="+", choices=SCENE_TASKS)
    new: bool = option("teach a new colour and kind, among what is known", False)
    held_back: int = option("pictures of the test lists", 200, whole(0, MOST_SCENES))
    seed: int = option("seed of scenes and texts", 0, non_negative_int)
    scenes: int = option("pictures to draw", 20000, whole(1, MOST_SCENES))
    wordings: int = option("captions per picture", 6, whole(1, MOST_WORDINGS))
    batch: int = option("pictures encoded at once", 32, whole(1, MOST_ROWS))
    shard_size: int = shard_size(2000)
    workers: int = option(
        "processes that draw where nothing is encoded, 0 for one a core", 0, whole(0, 512)
    )

    def __post_init__(self) -> None:
        if self.held_back >= self.scenes:
            raise InputError(
                f"{self.held_back} of {self.scenes} scenes held back; allowed: fewer than "
                "--scenes; change --held-back"
            )
