"""What the commands of emu3-mini's world and training are told."""

from dataclasses import dataclass
from typing import Any

from emu3.bundled import MINI_VISION
from emu3.errors import InputError
from emu3.names import DTYPES
from emu3.options import group, non_negative_float, non_negative_int, option, whole
from train.data.options import shard_size

MOST_STEPS, MOST_ROWS, MOST_TOKENS = 10**7, 4096, 2**15
MOST_SCENES, MOST_WORDINGS = 10**7, 1000
SCENE_TASKS = ("t2i", "vqa", "text")


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
class SceneOptions:
    """Of `python -m train.prepare_scene_data`: what is drawn, and how it becomes codes."""

    vq_model: str = option("vision tokenizer", str(MINI_VISION), metavar="PATH")
    codes: str = option(
        "of the vision tokenizer, or those it is taught to give (train.mini.world.cells)",
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
