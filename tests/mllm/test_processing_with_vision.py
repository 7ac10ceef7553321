"""Emu3Processor over the real vision tokenizer: pictures to the reference's ids and back."""

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from PIL import Image

from emu3.mllm import Emu3Processor
from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQImageProcessor, Emu3VisionVQModel
from tests.golden_weights import set_golden_weights

FOLDER = Path(__file__).parents[1] / "golden"
CASES = json.loads((FOLDER / "text_51.json").read_text())["understanding"]
IMAGES = np.load(FOLDER / "images_51.npz")


@pytest.fixture(scope="module")
def processor(released_tokenizer) -> Emu3Processor:
    config = json.loads((FOLDER / "vq_small.json").read_text())["config"]
    model = set_golden_weights(Emu3VisionVQModel(Emu3VisionVQConfig(**config)))
    table = np.load(FOLDER / "vq_small.npz")["quantize.embedding.weight"]
    model.quantize.embedding.weight.set_data(ms.Tensor(table))
    images = Emu3VisionVQImageProcessor(min_pixels=32 * 32, max_pixels=96 * 96)
    return Emu3Processor(images, model.set_train(False), released_tokenizer)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][-1])
def test_prompts_of_encoded_pictures_equal_the_reference(processor, case):
    images = [Image.fromarray(IMAGES[f"image_{i}"]) for i in case["images"]]
    padding_image = case["padding_image"]
    inputs = processor(
        case["text"], images, mode="U", padding_image=padding_image, padding="longest"
    )
    assert inputs["input_ids"] == case["input_ids"]
    assert inputs["image_size"] == case["image_size"]


def test_a_decoded_picture_is_the_models(processor):
    codes = np.random.default_rng(0).integers(0, 256, (4, 6))
    picture = processor.decode(processor.vocabulary.image_block(codes, [24, 9, 21]))
    pixels = processor.vision_tokenizer.decode(ms.Tensor(codes[None]))
    (expected,) = processor.image_processor.postprocess(pixels)["pixel_values"]
    assert picture.size == (48, 32)
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))
