"""From the place of a checkpoint to its models: `load` for people, the parts for commands.

m = emu3.load()
m.draw("a red star").save("star.png")
m.ask("What is it?", "star.png")
"""

from pathlib import Path
from typing import TYPE_CHECKING

from emu3 import bundled
from emu3.errors import InputError
from emu3.facade import Emu3

if TYPE_CHECKING:
    from emu3.mllm import Emu3Config, Emu3ForCausalLM, Emu3Tokenizer
    from emu3.tokenizer import (
        Emu3VisionVQConfig,
        Emu3VisionVQImageProcessor,
        Emu3VisionVQModel,
    )

RELEASED = "released"  # the sizes of the released models, which need no file


def load_language(
    place: str | Path,
    dtype: str | None = None,
    attn_implementation: str | None = None,
    weights: str | None = None,
) -> tuple["Emu3ForCausalLM", "Emu3Tokenizer"]:
    """The language model of a folder or hub id and its tokenizer, which pads on the left.

    `weights` is what its matrices are stored as on CPU, by default what fits.

    Raises:
        InputError: a file is missing or broken, or the two do not belong together.
    """
    from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
    from emu3.mllm.vocabulary import check_same_words

    tokenizer = Emu3Tokenizer.from_pretrained(place, padding_side="left")
    model = Emu3ForCausalLM.from_pretrained(
        place,
        mindspore_dtype=dtype,
        attn_implementation=attn_implementation,
        weights=weights,
    )
    check_same_words(model.config, tokenizer)
    return model.set_train(False), tokenizer


def load_vision(
    place: str | Path, dtype: str | None = None
) -> tuple["Emu3VisionVQModel", "Emu3VisionVQImageProcessor"]:
    """The vision tokenizer of a folder or hub id and its image processor.

    Raises:
        InputError: a file is missing or broken.
    """
    from emu3.tokenizer import Emu3VisionVQImageProcessor, Emu3VisionVQModel

    image_processor = Emu3VisionVQImageProcessor.from_pretrained(place)
    vision = Emu3VisionVQModel.from_pretrained(place, mindspore_dtype=dtype)
    return vision.set_train(False), image_processor


def read_configs(model: str, vq_model: str) -> tuple["Emu3Config", "Emu3VisionVQConfig"]:
    """The configurations of two places: a folder, a hub id, a JSON file of sizes, or `RELEASED`.

    Raises:
        InputError: there is none, or its values are impossible.
    """
    from emu3.mllm import Emu3Config
    from emu3.tokenizer import Emu3VisionVQConfig

    language = _read_config(Emu3Config, model, "--model")
    return language, _read_config(Emu3VisionVQConfig, vq_model, "--vq-model")


def holds_both(place: str | Path) -> bool:
    """Whether a folder or hub id holds a language model and a vision tokenizer in one.

    Raises:
        InputError: it is neither, or has no usable config.json.
    """
    from emu3.files import read_json
    from emu3.hflayout import BOTH
    from emu3.hub import CONFIG, checkpoint_folder

    return read_json(checkpoint_folder(place, [CONFIG]) / CONFIG).get("model_type") == BOTH


def _read_config(config_class: type, place: str, flag: str):
    from emu3.configfile import config_of_sizes, read_config
    from emu3.hub import CONFIG, checkpoint_folder

    if place == RELEASED:
        return config_class()
    if place.endswith(".json"):
        return config_of_sizes(config_class, place, flag)
    return read_config(config_class, checkpoint_folder(place, [CONFIG], flag), {}, flag)


def check_same_codes(model: "Emu3ForCausalLM", vision: "Emu3VisionVQModel") -> None:
    """Refuse a language model and a vision tokenizer of different code counts.

    Raises:
        InputError: they do not belong together.
    """
    from emu3.mllm.vocabulary import Vocabulary

    ours, theirs = Vocabulary.from_config(model.config).visual_count, vision.config.codebook_size
    if ours != theirs:
        raise InputError(
            f"the language model has {ours} visual tokens, the vision tokenizer {theirs} codes; "
            "allowed: models that belong together; change --model or --vq-model"
        )


def load(
    model: str | Path = bundled.MINI_LANGUAGE,
    vq_model: str | Path | None = None,
    *,
    device: str = "auto",
    dtype: str | None = None,
    attn_implementation: str | None = None,
    threads: int | None = None,
    weights: str | None = None,
) -> Emu3:
    """Choose a device and load the models of a folder or hub id, or of two; emu3-mini by default.

    Args:
        model: the language model.
        vq_model: the vision tokenizer; by default the model's own where its folder holds both, as
            transformers' -hf repositories do, else emu3-mini's.
        device: "auto", "CPU" or "Ascend".
        dtype: "float32", "float16" or "bfloat16"; the device's by default.
        attn_implementation: "eager", "sdpa" or "flash_attention_2"; the device's best by default.
        threads: CPU threads; all cores by default.
        weights: "float32", "bfloat16" or "int8" (approximate): what the language model's matrices
            are stored as on CPU, which computes in float32; by default the first that fits.

    Raises:
        InputError: a file is missing or broken, or a value that cannot be.
    """
    from emu3 import runtime

    runtime.setup(device, threads=threads)
    if vq_model is None:
        vq_model = model if holds_both(model) else bundled.MINI_VISION
    return load_models(model, vq_model, dtype, attn_implementation, weights)


def load_models(
    model: str | Path,
    vq_model: str | Path,
    dtype: str | None = None,
    attn_implementation: str | None = None,
    weights: str | None = None,
) -> Emu3:
    """The models of two folders or hub ids, on the device already chosen.

    Raises:
        InputError: a file is missing or broken, or the models do not belong together.
    """
    from emu3.mllm.defaults import CheckpointDefaults
    from emu3.mllm.prompts import PromptBuilder
    from emu3.tokenizer import VisionCodec

    language, tokenizer = load_language(model, dtype, attn_implementation, weights)
    defaults = CheckpointDefaults.from_pretrained(model)
    prompts = PromptBuilder.stated(tokenizer, defaults)
    codec = VisionCodec(*load_vision(vq_model, dtype))
    check_same_codes(language, codec.vision)
    return Emu3(language, prompts, codec, defaults)
