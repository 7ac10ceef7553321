"""The decoder's logits against the model's own forward pass, and its upkeep of weights."""

import numpy as np
import pytest
from mindspore import Tensor, ops
from mindspore.common import api

from emu3.arrays import as_numpy
from emu3.mllm.generation.decoder import Decoder, StepStore
from emu3.mllm.generation.step_weights import StepWeights
from emu3.nn.step_kernels import marks_kernel
from tests.mllm.generation.conftest import prompt
from tests.tiny import golden_model

PROMPTS = [prompt(9, seed=1)[0], prompt(5, seed=2)[0]]
NEGATIVES = [prompt(12, seed=3)[0]]
CANDIDATES = (31, 63)
GUIDANCE = 2.5


def greedy_decoder(model, jit: bool) -> Decoder:
    """Two guided sequences, eight free tokens."""
    request = model.request(
        PROMPTS,
        negative_prompt_ids=NEGATIVES,
        guidance_scale=GUIDANCE,
        image_size=(1, 8),
        max_new_tokens=8,
        do_sample=False,
        seed=0,
        jit=jit,
    )
    return Decoder(StepStore(model), request)


def uncached_logits(model, made: np.ndarray) -> np.ndarray:
    """Guided logits (2, V) after `made` (2, n), each row in a pass of its own."""
    mixed = []
    for row, tail in zip(PROMPTS, made):
        wanted, unwanted = (
            as_numpy(model(Tensor(np.concatenate([start, tail])[None])).logits)[0, -1]
            for start in (row, NEGATIVES[0])
        )
        mixed.append(unwanted + GUIDANCE * (wanted - unwanted))
    return np.stack(mixed)[:, slice(*CANDIDATES)]


@pytest.mark.parametrize("jit", [False, True])
def test_guided_logits_equal_separate_uncached_passes(model, jit):
    decoder = greedy_decoder(model, jit)
    logits = decoder.start()
    assert np.abs(logits.asnumpy() - uncached_logits(model, decoder.tokens)).max() < 1e-4
    decoder.choose(logits)
    for _ in range(3):
        logits = decoder.next_logits()
        assert np.abs(logits.asnumpy() - uncached_logits(model, decoder.tokens)).max() < 1e-4
        decoder.choose(logits)


def test_unjoined_weights_give_the_same_logits(model, monkeypatch):
    joined = greedy_decoder(model, False)
    joined.choose(joined.start())
    monkeypatch.setattr("emu3.mllm.generation.step_weights.FUSE_BELOW_BYTES", 0)
    parts = greedy_decoder(model, False)
    parts.choose(parts.start())
    assert not parts.store.weights.fused
    difference = joined.next_logits().asnumpy() - parts.next_logits().asnumpy()
    assert np.abs(difference).max() < 1e-5


def test_joined_weights_follow_the_model():
    model = golden_model()
    weights = StepWeights(model)
    query = model.model.layers[0].self_attn.q_proj.weight
    query.set_data(Tensor(np.full(query.shape, 7.0, np.float32)))
    weights.refresh()
    assert (weights.qkv[0][0][0].asnumpy()[: query.shape[0]] == 7).all()


@pytest.mark.parametrize("marking", [marks_kernel, lambda: None])
def test_one_number_that_moves_in_place_is_seen(marking):
    model = golden_model()
    weights = StepWeights(model)
    head = weights.head(3, 20)[0]
    gate = model.model.layers[-1].mlp.gate_proj.weight
    for value in (7.0, 8.0):
        for parameter in (gate, model.lm_head.weight):
            changed = parameter.asnumpy().copy()
            changed[5, 3] = value
            ops.assign(parameter, Tensor(changed))
        weights.refresh(marking())
        assert weights.gate_up[-1][0][0].asnumpy()[5, 3] == head.asnumpy()[2, 3] == value


def test_what_has_not_moved_is_not_copied_again():
    model = golden_model()
    weights = StepWeights(model)
    weights.refresh(marks_kernel())
    joined = weights.qkv[0][0][0]
    ops.assign(joined, ops.zeros_like(joined))
    weights.refresh(marks_kernel())
    assert not joined.asnumpy().any()


def test_a_repeated_generation_takes_the_same_step(model):
    decoder = greedy_decoder(model, False)
    decoder.start()
    step = decoder.current
    decoder.close()
    assert decoder.store.take(step.kind, False) is step


def test_a_step_that_goes_leaves_nothing_compiled_and_comes_back_the_same(model, monkeypatch):
    """Such that a server that is asked for ever other sizes keeps its memory."""
    monkeypatch.setattr("emu3.mllm.generation.decoder.STEPS_KEPT", 1)

    def made(count: int) -> np.ndarray:
        picture = {"image_size": (1, 3), "do_sample": False, "jit": True}
        return as_numpy(model.generate(PROMPTS[:count], **picture))

    first, kept = made(1), len(api.ms_compile_cache)
    made(2)
    assert len(api.ms_compile_cache) == kept
    assert np.array_equal(made(1), first) and len(api.ms_compile_cache) == kept


def test_decoding_renames_no_parameter(model):
    names = [name for name, _ in model.parameters_and_names()]
    own = [parameter.name for parameter in model.get_parameters()]
    greedy_decoder(model, False).start()
    assert [name for name, _ in model.parameters_and_names()] == names
    assert [parameter.name for parameter in model.get_parameters()] == own


def test_the_decoder_layer_and_its_form_for_decoding_compute_the_same(model):
    decoder = greedy_decoder(model, False)
    logits = decoder.start()  # by DecoderLayer
    decoder.choose(logits)
    stepped = decoder.next_logits().asnumpy()  # by StepLayer
    for row, (start, token) in enumerate(zip(PROMPTS, decoder.tokens[:, 0])):
        layered = model(Tensor(np.append(start, token)[None].astype(np.int32)), use_cache=False)
        unwanted = model(Tensor(np.append(NEGATIVES[0], token)[None].astype(np.int32)))
        wanted, other = (as_numpy(out.logits)[0, -1] for out in (layered, unwanted))
        mixed = (other + GUIDANCE * (wanted - other))[slice(*CANDIDATES)]
        assert np.abs(stepped[row] - mixed).max() < 1e-4
