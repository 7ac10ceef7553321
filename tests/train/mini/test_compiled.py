"""Steps of emu3-mini's training as its commands run them, compiled; on the smallest networks."""

import json
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from emu3 import runtime
from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQModel
from tests.support import randomised
from tests.train.mini.runs import LANGUAGE, pynative_commands, rows_of, train_language
from train.mini.scene_codes import Encode
from train.mini.vision.step import BothStep, DrawStep, NameStep

CODES, SIDE = 7, 8  # of the codebook; pixels of a picture


@pytest.fixture
def folder(tmp_path, builder):
    (tmp_path / "language.json").write_text(json.dumps(LANGUAGE | {"num_hidden_layers": 1}))
    builder.tokenizer.save_pretrained(tmp_path / "tokenizer")
    return tmp_path


def test_compiled_steps_of_the_language_model_are_those_of_pynative(folder):
    """Resumed after the first; the second drops activations in one of the runs."""
    two, wet = ["--steps", "2"], ["--dropout", "0.5"]
    train_language(folder, "dry", *two, "--minutes", "0")
    shutil.copytree(folder / "dry", folder / "wet")
    shutil.copy(folder / "dry.safetensors", folder / "wet.safetensors")
    compiled = train_language(folder, "dry", *two)
    dropped = train_language(folder, "wet", *two, *wet)
    with pynative_commands():
        plain = train_language(folder, "plain", *two)
    np.testing.assert_allclose(figures(compiled), figures(plain), rtol=1e-3)
    (first, second), (_, dry) = figures(dropped), figures(compiled)
    assert first == figures(compiled)[0]
    assert abs(second[1] / dry[1] - 1) > 0.05


def figures(run: Path) -> list[list[float]]:
    """Loss and gradient norm of each step."""
    return [[float(cell) for cell in row[2:4]] for row in rows_of(run)]


def vision_model() -> Emu3VisionVQModel:
    config = Emu3VisionVQConfig(
        ch=32,
        ch_mult=[1, 1],
        num_res_blocks=1,
        attn_resolutions=[],
        codebook_size=CODES,
        embed_dim=4,
        z_channels=4,
        temporal_downsample_factor=1,
    )
    return randomised(Emu3VisionVQModel(config), 1).set_train(True)


def test_a_compiled_step_of_the_vision_tokenizer_is_that_of_pynative():
    """The last steps' kind, which holds what the two before do."""
    rng = np.random.default_rng(0)
    pixels = rng.uniform(-1, 1, (2, 3, SIDE, SIDE)).astype(np.float32)
    weights = rng.uniform(1, 6, (2, 1, SIDE, SIDE)).astype(np.float32)
    names = rng.integers(0, CODES, 2 * (SIDE // 2) ** 2, np.int32)
    inputs = [*map(Tensor, (pixels, weights, names)), Tensor(1e-2, ms.float32)]

    def figures_of_two_steps(mode):
        runtime.setup(device="CPU", mode=mode)
        model = vision_model()
        step = BothStep(NameStep(model), DrawStep(model)).set_train(True)
        return [[float(figure) for figure in step(*inputs)] for _ in range(2)]

    first, second = figures_of_two_steps("graph")
    np.testing.assert_allclose([first, second], figures_of_two_steps("pynative"), rtol=1e-2)
    assert abs(second[0] / first[0] - 1) > 0.02


def test_compiled_encoding_gives_the_codes_of_pynative():
    pixels = Tensor(np.random.default_rng(0).uniform(-1, 1, (2, 3, SIDE, SIDE)).astype(np.float32))
    encode = Encode(vision_model().set_train(False))
    expected = encode(pixels).asnumpy()
    runtime.setup(device="CPU", mode="graph")
    assert np.array_equal(encode(pixels).asnumpy(), expected) and len(set(expected)) > 1
