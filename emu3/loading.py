"""From the place of a checkpoint to its models, and whether two of them belong together."""

from pathlib import Path
from typing import TYPE_CHECKING

from emu3.errors import InputError

if TYPE_CHECKING:
    from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
    from emu3.tokenizer import Emu3VisionVQImageProcessor, Emu3VisionVQModel


def load_language(
    place: str | Path, dtype: str | None = None, attn_implementation: str | None = None
) -> tuple["Emu3ForCausalLM", "Emu3Tokenizer"]:
    """The language model of a folder or hub id and its tokenizer, which pads on the left.

    Raises:
        InputError: a file is missing or broken, or the two do not belong together.
    """
    from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
    from emu3.mllm.vocabulary import check_same_words

    tokenizer = Emu3Tokenizer.from_pretrained(place, padding_side="left")
    model = Emu3ForCausalLM.from_pretrained(
        place, mindspore_dtype=dtype, attn_implementation=attn_implementation
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
