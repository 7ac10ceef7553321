"""Every operator of every task on Ascend, compiled in bfloat16, against what documents allow."""

import functools
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import ParameterTuple, Tensor, nn, ops

from emu3 import runtime
from emu3.mllm import Emu3Config, Emu3ForCausalLM
from emu3.mllm.generation.schemes import part
from emu3.mllm.generation.step import StepKind
from emu3.mllm.generation.step_weights import StepWeights
from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQModel
from tests.ascend.recorded import in_bfloat16, recorded
from tests.ascend.tables import ACLOP, refused
from tests.mllm.generation.conftest import MARKERS, SIZES, prompt
from train.tuning.lora import NewRows
from train.tuning.step import SummedLoss

WAYS = {
    "plain": {},
    "jacobi": {"decoding": "jacobi", "window": 4},
    "zipar": {"decoding": "zipar", "zipar_window": 2},
}
MOST_KERNELS = 18  # of a layer, in a step


@pytest.fixture(autouse=True)
def ascend(monkeypatch):
    """Ascend's arms, with the real operators in them: they are compiled, not run."""
    monkeypatch.setattr(runtime, "device_target", lambda: "Ascend")


def make_model(layers: int = 1, form: str = "float32") -> Emu3ForCausalLM:
    """A small network with heads of 16, its layers' matrices in a form."""
    sizes = {**SIZES, "hidden_size": 64, "num_hidden_layers": layers}
    if form == "int8":  # which wants more columns than a group has
        sizes |= {"hidden_size": 96, "num_attention_heads": 6, "intermediate_size": 144}
    ids = {f"{name}_token_id": value for name, value in MARKERS.items()}
    model = Emu3ForCausalLM(Emu3Config(**sizes, **ids))
    model.convert(form)
    return in_bfloat16(model)


def floats(*shape: int, dtype: ms.Type = ms.bfloat16) -> Tensor:
    return Tensor(np.ones(shape, np.float32)).astype(dtype)


def whole(*shape: int) -> Tensor:
    return Tensor(np.ones(shape, np.int32))


@functools.cache
def step_operators(way: str, layers: int, joined: bool, form: str = "float32") -> list:
    """What a guided step with top-k and top-p is made of."""
    model = make_model(layers, form)
    request = model.request(
        [prompt(9)[0]],
        negative_prompt_ids=[prompt(5)[0]],
        guidance_scale=2.5,
        guidance_floor=0.1,
        image_size=(4, 4),
        max_new_tokens=24,
        do_sample=True,
        top_k=8,
        top_p=0.9,
        **WAYS[way],
    )
    kind = replace(StepKind.of(request, request.settings.scheme.places(4, 4)), slots=128)
    with pytest.MonkeyPatch.context() as patch:
        if not joined:
            patch.setattr("emu3.mllm.generation.step_weights.FUSE_BELOW_BYTES", 0)
        patch.setattr(ops, "concat", stacked)
        step = part(kind.scheme.step)(model, StepWeights(model), kind).set_train(False)
    scalars = [Tensor(value, ms.float32) for value in (2.5, 1.0, 0.9)]
    places = kind.sequences * kind.window
    noise = floats(16, 3, places, dtype=ms.float32)
    arguments = {
        "plain": (whole(1), whole(1)),
        "jacobi": (whole(1), whole(1), whole(1), whole(1), noise),
        "zipar": (whole(1), whole(1), whole(16, places), whole(16, places)),
    }[way]
    return recorded(step.once, *arguments, *scalars)


def stacked(parts, axis: int) -> Tensor:
    """Stands for joining weights, which a CPU cannot do in bfloat16."""
    return floats(sum(each.shape[0] for each in parts), *parts[0].shape[1:])


@pytest.mark.parametrize("way", WAYS)
def test_a_step_has_documented_operators_and_few_kernels_a_layer(way):
    operators = [step_operators(way, layers, True) for layers in (1, 2)]
    assert not refused(operators[1])
    assert len(operators[1]) - len(operators[0]) <= 14


def test_a_step_that_joins_no_weights_has_few_kernels_a_layer_too():
    operators = [step_operators("plain", layers, False) for layers in (1, 2)]
    assert not refused(operators[1])
    assert len(operators[1]) - len(operators[0]) <= MOST_KERNELS - 1


def test_a_step_of_int8_matrices_has_the_operator_for_them_and_no_kernel_more():
    operators = [step_operators("plain", layers, False, "int8") for layers in (1, 2)]
    assert not refused(operators[1])
    assert len(operators[1]) - len(operators[0]) <= MOST_KERNELS - 1
    products = [sum(each.name == "WeightQuantBatchMatmul" for each in all_) for all_ in operators]
    assert products == [7, 14]


def test_no_layer_of_a_step_launches_a_slow_kernel():
    slow = [
        sum(each.name in ACLOP for each in step_operators("plain", layers, True))
        for layers in (1, 2)
    ]
    assert slow[0] == slow[1]


def test_prompts_are_read_with_documented_operators():
    network = make_model().model
    bias = floats(2, 1, 8, 8, dtype=ms.float32)
    assert not refused(
        recorded(network.construct, floats(2, 8, 64), floats(2, 8, 16), floats(2, 8, 16), bias)
    )


class Gradients(nn.Cell):
    """The gradients of a loss, as a training step takes them."""

    def __init__(self, loss: nn.Cell) -> None:
        super().__init__()
        self.loss, self.parameters = loss, ParameterTuple(loss.trainable_params())
        self.gradient = ops.GradOperation(get_by_list=True, sens_param=True)

    def construct(self, ids, positions, branches, places, labels, scale):
        gradient = self.gradient(self.loss, self.parameters)
        return gradient(ids, positions, branches, places, labels, scale)


def test_training_has_documented_operators():
    loss = SummedLoss(make_model(), 8).set_train(True)
    arguments = (whole(2, 8), whole(2, 8), whole(2, 8), whole(6), whole(6))
    assert not refused(recorded(loss.construct, *arguments))
    scale = Tensor(1.0, ms.float32)
    assert not refused(recorded(Gradients(loss).construct, *arguments, scale))


def test_rows_of_new_ids_have_documented_operators():
    rows = NewRows(make_model().lm_head, np.array([3, 5]))
    assert not refused(recorded(in_bfloat16(rows).construct, floats(63, 64)))


def test_the_vision_tokenizer_has_documented_operators():
    sizes = {"ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1, "attn_resolutions": [1]}
    vision = in_bfloat16(Emu3VisionVQModel(Emu3VisionVQConfig(codebook_size=32, **sizes)))
    latent = floats(1, 4, 4, 4)
    parts = [
        (vision.encoder.down[0].downsample.construct, floats(1, 32, 8, 8)),
        (vision.encoder.time, floats(1, 4, 4, 4, 4)),
        (vision.quantize.construct, floats(8, 4)),
        (vision.decoder.time, floats(1, 4, 1, 4, 4)),
        (vision.decoder.frames, latent, latent),
    ]
    for method, *arguments in parts:
        assert not refused(recorded(method, *arguments)), method
