"""Settings a checkpoint states for its own use, and the released models' where it is silent.

Sampling settings stand in generation_config.json, everything else in config.json.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from emu3.errors import InputError
from emu3.files import read_json
from emu3.hub import CONFIG, GENERATION_CONFIG, checkpoint_folder, take_hub_options
from emu3.mllm.configuration_emu3 import IMAGE_AREA

CONFIG_FILES = (CONFIG, GENERATION_CONFIG)


@dataclass(frozen=True)
class CheckpointDefaults:
    """What a command uses when the user says nothing; the values here are the released models'.

    `caption_words` are the words of the captions it was trained on, if it says so; `image_area` is
    in pixels; `chat_template` None means the tokenizer's own. Those of clips are ours, since no
    released model makes any: `video_frames` are made where nobody says how many. The last four are
    the fields of emu3.mllm.generation.schemes.
    """

    image_area: int = IMAGE_AREA
    example_prompt: str = "a portrait of young girl."
    positive_prompt: str = " masterpiece, film grained, best quality."
    negative_prompt: str = (
        "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, "
        "cropped, worst quality, low quality, normal quality, jpeg artifacts, signature, "
        "watermark, username, blurry."
    )
    guidance_scale: float = 3.0
    temperature: float = 1.0
    top_k: int = 2048
    top_p: float = 1.0
    best_of: int = 1
    chat_template: str | None = None
    caption_words: str | None = None
    video_prefix_template: str | None = None
    video_prompt: str = "a red car drives to the right"
    video_frames: int = 16
    video_fps: float = 8.0
    decoding: str = "plain"
    window: int | None = None
    coupling: str | None = None
    zipar_window: int | None = None

    @classmethod
    def from_pretrained(cls, path_or_hub_id: str | Path, **options) -> "CheckpointDefaults":
        """Read the two configuration files of a folder or a hub id; `options` go to the hub.

        Raises:
            InputError: no such folder or option, or a file in it is no JSON object or holds a
                wrong type.
        """
        where = take_hub_options(options)
        for name in options:
            raise InputError(f"{name} is no option of the hub; leave it out")
        folder = checkpoint_folder(path_or_hub_id, list(CONFIG_FILES), **where)
        stated = {}
        for path in (folder / name for name in CONFIG_FILES):
            stated |= read_json(path, "change --model") if path.exists() else {}
        known = [f for f in fields(cls) if stated.get(f.name) is not None]
        for field in known:
            _check_type(field.name, stated[field.name], field.type, folder)
        return replace(cls(), **{field.name: stated[field.name] for field in known})


def _check_type(name: str, value: object, allowed: type, folder: Path) -> None:
    allowed = int | float if allowed is float else allowed
    if not isinstance(value, allowed) or isinstance(value, bool):
        kind = "a number" if isinstance(0, allowed) else "a text"
        raise InputError(f"{name} = {value!r} in {folder} is not {kind}; change --model")
