"""The layer of a decoding step with stored weights: one kernel against several, and its cache."""

from functools import partial

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from emu3.arrays import as_numpy
from emu3.mllm import Emu3ForCausalLM
from emu3.mllm.generation import decoder
from emu3.mllm.generation.sampling import SamplerKind
from emu3.mllm.generation.schemes import Plain
from emu3.mllm.generation.step import StepKind, StepLayer
from emu3.mllm.generation.step_weights import StepWeights
from emu3.nn.masked import MASKED
from emu3.nn.step_kernels import step_attention
from emu3.tensorfile import from_bfloat16, to_bfloat16
from tests.support import randomised, tiny_config

ROWS, SLOTS = 2, 40


@pytest.fixture(autouse=True)
def _compiled():
    if step_attention("float32") is None:
        pytest.skip("no compiler for the kernels here")


def layer(form: str, kept: str, window: int) -> StepLayer:
    """A layer whose cache holds the same random numbers each time."""
    model = randomised(Emu3ForCausalLM(tiny_config()), 0).set_train(False)
    model.convert(form)
    sampler = SamplerKind(greedy=True, top_k=0, use_top_p=False)
    kind = StepKind(ROWS, 1, SLOTS, (0, 8), sampler, Plain(), window, kept)
    made = StepLayer(model.model.layers[0], StepWeights(model), 0, model.config, kind)
    config, rng = model.config, np.random.default_rng(0)
    shape = (ROWS, config.num_key_value_heads, SLOTS, config.head_dim)
    made.load(*(Tensor(rng.standard_normal(shape, np.float32)) for _ in range(2)))
    return made


def ran(made: StepLayer) -> list[np.ndarray]:
    """What the layer gives for its places, and its cache after it: slots 3 to 30 are seen."""
    rng, places = np.random.default_rng(1), ROWS * made.window
    x = rng.standard_normal((places, made.input_norm.weight.shape[0]), np.float32)
    cos, sin = rng.standard_normal((2, places, 1, made.head_dim), np.float32)
    bias = np.full((ROWS, 1, made.window, SLOTS), MASKED, np.float32)
    bias[..., 3:31] = 0
    bias[1, ..., 7] = MASKED
    slots = np.arange(made.window) + 30 - made.window
    first = np.arange(ROWS * made.groups).reshape(ROWS, 1, -1) * SLOTS
    where = (first + slots[:, None]).astype(np.int32).reshape(-1)
    out = made(*map(Tensor, (x, cos, sin, bias, where)))
    return [out.asnumpy(), *map(as_numpy, made.saved())]


@pytest.mark.parametrize(
    ("form", "kept", "window"),
    [("bfloat16", "float32", 1), ("int8", "float32", 5), ("int8", "bfloat16", 1)],
)
def test_one_kernel_gives_what_its_parts_give(form, kept, window):
    whole, parts = layer(form, kept, window), layer(form, kept, window)
    assert whole.whole is not None
    parts.whole = None
    for ours, theirs in zip(ran(whole), ran(parts)):
        assert np.abs(ours - theirs).max() <= 2e-6 * np.abs(theirs).max()


def test_a_cache_in_bfloat16_holds_rounded_numbers_and_computes_with_them():
    narrow, wide = layer("bfloat16", "bfloat16", 1), layer("bfloat16", "float32", 1)
    wide.load(*(Tensor(part) for part in map(as_numpy, narrow.saved())))  # of the same rounded ones
    assert narrow.keys.dtype == ms.uint16
    (out, *cached), (wanted, *exact) = ran(narrow), ran(wide)
    for ours, theirs in zip(cached, exact):  # among them what this step has written
        assert np.array_equal(ours, from_bfloat16(to_bfloat16(theirs)))
    assert 0 < np.abs(out - wanted).max() < 1e-2 * np.abs(wanted).max()


def test_a_large_cache_of_stored_weights_is_kept_in_bfloat16(monkeypatch):
    monkeypatch.setattr(decoder, "LARGEST_WIDE", 0)
    model = randomised(Emu3ForCausalLM(tiny_config()), 0).set_train(False)
    assert decoder.cache_form(model.config, False, 2, 128) == "float32"
    model.convert("bfloat16")
    prompt = np.full((1, 5), model.config.img_token_id, np.int32)
    made = model.generate(prompt, image_size=(3, 4), guidance_scale=1.0, do_sample=False)
    assert model._step_store().steps[-1].step.layers[0].keys.dtype == ms.uint16
    assert made.shape[1] > 17


def test_a_cache_that_is_too_large_to_keep_goes_with_its_step(monkeypatch):
    model = randomised(Emu3ForCausalLM(tiny_config()), 0).set_train(False)
    prompt = np.full((1, 5), model.config.img_token_id, np.int32)
    draw = partial(model.generate, prompt, image_size=(3, 4), guidance_scale=1.0, do_sample=False)
    first = draw().asnumpy()
    assert len(model._step_store().steps) == 1
    monkeypatch.setattr(decoder, "CACHE_BYTES_KEPT", 0)
    assert np.array_equal(draw().asnumpy(), first)
    assert not model._step_store().steps
    assert np.array_equal(draw().asnumpy(), first)


@pytest.mark.parametrize("kernel", [True, False])
def test_a_cache_holds_what_is_known_and_zeros_behind(monkeypatch, kernel):
    made = layer("float32", "float32", 1)
    if not kernel:
        monkeypatch.setattr("emu3.mllm.generation.step.fill_kernel", lambda: None)
    shape = (ROWS, made.groups, 9, made.head_dim)
    keys, values = np.random.default_rng(2).standard_normal((2, *shape), np.float32)
    made.load(Tensor(keys), Tensor(values))
    for known, kept in zip((keys, values), map(as_numpy, made.saved())):
        np.testing.assert_array_equal(kept[:, :, :9], known)
        assert not kept[:, :, 9:].any()
