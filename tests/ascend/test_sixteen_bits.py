"""16-bit networks keep 16 bits from end to end on Ascend's arms, and no row of them is poisoned.

float16 stands for bfloat16, with which a CPU cannot compute.
"""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from emu3 import runtime
from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm.generation.prefill import make_rows, prefill
from emu3.nn.conv import CausalConv3d
from emu3.tokenizer import Emu3VisionVQModel
from tests.ascend.test_step import PROMPTS, WAYS, drawn, make_model
from tests.support import golden_vision_config, randomised, tiny_vision_config
from train.tuning.lora import NewRows
from train.tuning.loss import HeadLoss

HALF = ms.float16


def halved(model):
    """The model with float16 weights, as it would be read for a card."""
    for parameter in model.get_parameters():
        if parameter.is_floating_point():
            values = as_numpy(parameter)
            parameter.set_dtype(HALF)
            parameter.set_data(Tensor(values, HALF))
    return model


def distance(got, wanted) -> float:
    """norm(got - wanted) / norm(wanted)."""
    got, wanted = (np.asarray(as_numpy(x), np.float64) for x in (got, wanted))
    return np.linalg.norm(got - wanted) / np.linalg.norm(wanted)


def left_behind(model, rows):
    """What the prompts leave behind in the end."""
    parts = prefill(model, rows, rows.slots)
    while True:
        try:
            next(parts)
        except StopIteration as end:
            return end.value


def test_prompts_of_different_lengths_are_read_without_a_poisoned_row(request):
    rows = make_rows(PROMPTS, None, 1)
    wanted = left_behind(make_model(layers=2), rows)
    request.getfixturevalue("half")
    got = left_behind(halved(make_model(layers=2)), rows)
    assert got.hidden.dtype == HALF and {part.dtype for part in got.cache} == {HALF}
    assert all(np.isfinite(part.asnumpy()).all() for part in (got.hidden, *got.cache))
    assert distance(got.hidden, wanted.hidden) < 1e-2


def test_a_picture_is_drawn_in_16_bits(half, monkeypatch):
    monkeypatch.setattr("tests.ascend.test_step.make_model", lambda: halved(make_model()))
    assert drawn("plain", False).shape[0] == 2


def test_the_vision_tokenizer_keeps_16_bits_both_ways(request):
    clip = np.random.default_rng(0).uniform(-1, 1, (1, 4, 3, 16, 16)).astype(np.float32)
    wanted = randomised(Emu3VisionVQModel(tiny_vision_config()), 1).set_train(False)
    codes = wanted.encode(Tensor(clip))
    request.getfixturevalue("half")
    vision = halved(randomised(Emu3VisionVQModel(tiny_vision_config()), 1)).set_train(False)
    assert vision.encode_latent(Tensor(clip).astype(HALF)).dtype == HALF
    assert (vision.encode(Tensor(clip)) == codes).asnumpy().mean() > 0.9
    assert distance(vision.decode(codes), wanted.decode(codes)) < 2e-2


def test_the_loss_of_16_bit_states_is_that_of_their_numbers(half):
    rng = np.random.default_rng(0)
    hidden, weight = (rng.standard_normal(shape).astype(np.float16) for shape in ((6, 8), (30, 8)))
    labels = Tensor(np.array([1, 2, -100, 3, 4, 29], np.int32))
    wide = HeadLoss(40)(*(Tensor(x.astype(np.float32)) for x in (hidden, weight)), labels)
    loss, by_hidden, by_weight = HeadLoss(40)(Tensor(hidden), Tensor(weight), labels)
    assert (loss.dtype, by_hidden.dtype, by_weight.dtype) == (ms.float32, HALF, HALF)
    pairs = zip((loss, by_hidden, by_weight), wide)
    assert max(distance(got, wanted) for got, wanted in pairs) < 1e-2


def test_new_rows_of_a_16_bit_table_are_added_in_it(half):
    table = make_model().lm_head
    halved(table)
    rows = NewRows(table, np.array([3, 5]))
    rows.change_of_rows.set_data(Tensor(np.ones(rows.change_of_rows.shape), HALF))
    got = rows(Tensor(table.weight.asnumpy()))
    assert got.dtype == HALF
    change = got.asnumpy().astype(np.float32) - table.weight.asnumpy()
    np.testing.assert_allclose(change[[3, 5]], 1, atol=1e-3)
    assert not np.delete(change, [3, 5], 0).any()


def test_a_3d_convolution_takes_float16_whatever_the_dtype(exact, monkeypatch):
    conv, taken = CausalConv3d(2, 3, (3, 3, 3)), []
    kernel = conv.conv.conv3d

    def watched(*tensors):
        taken.extend(tensor.dtype for tensor in tensors)
        return kernel(*tensors)

    conv.conv.conv3d = watched
    x = Tensor(np.random.default_rng(0).standard_normal((1, 2, 4, 5, 5)).astype(np.float32))
    got = conv(x)
    assert taken == [HALF, HALF] and got.dtype == ms.float32
    monkeypatch.setattr(runtime, "on_ascend", lambda: False)
    plain = CausalConv3d(2, 3, (3, 3, 3))
    ms.load_param_into_net(plain, conv.parameters_dict())
    assert distance(got, plain(x)) < 2e-3


def test_float32_is_refused_for_the_vision_tokenizer_alone(half):
    with pytest.raises(InputError, match=r"float32 .*allowed: bfloat16, float16; change --dtype"):
        runtime.check_ascend_dtype(ms.float32, Emu3VisionVQModel.ascend_dtypes)
    runtime.check_ascend_dtype(ms.float32, type(make_model()).ascend_dtypes)


def test_a_coupling_that_ascend_cannot_do_is_refused_by_name(half, monkeypatch):
    gumbel = {"decoding": "jacobi", "window": 4, "coupling": "gumbel"}
    monkeypatch.setitem(WAYS, "gumbel", gumbel)
    with pytest.raises(InputError, match=r"coupling = 'gumbel' .*change --coupling"):
        drawn("gumbel", False)


def test_vision_parts_of_ascend_compute_what_the_cpus_do(request):
    config = golden_vision_config("vq_mult1")
    clip = np.random.default_rng(0).uniform(-1, 1, (1, 4, 3, 16, 16)).astype(np.float32)
    wanted = randomised(Emu3VisionVQModel(config), 1).set_train(False)
    latent = wanted.encode_latent(Tensor(clip))
    request.getfixturevalue("exact")
    ours = randomised(Emu3VisionVQModel(config), 1).set_train(False)
    assert distance(ours.encode_latent(Tensor(clip)), latent) < 1e-2
    assert distance(ours.decode_latent(latent, False), wanted.decode_latent(latent, False)) < 1e-2
