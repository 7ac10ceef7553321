"""The compiled step of Ascend, made of doubles, against the CPU's: every way of decoding."""

import numpy as np
import pytest

from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.mllm.generation import blocks
from emu3.mllm.modeling_emu3 import Emu3ForCausalLM
from tests.golden_weights import set_golden_weights
from tests.mllm.generation.conftest import MARKERS, SIZES, prompt

# Heads of 16 are the operators' least.
WIDER = {"hidden_size": 64, "num_attention_heads": 4}
PROMPTS = [prompt(9, seed=1)[0], prompt(5, seed=2)[0]]
WAYS = {
    "plain": {},
    "unguided": {"guidance_scale": 1.0, "negative_prompt_ids": None},
    "greedy": {"do_sample": False},
    "nucleus": {"top_k": 0, "top_p": 0.8},
    "jacobi": {"decoding": "jacobi", "window": 4, "coupling": "maximal"},
    "fixed": {"decoding": "jacobi", "window": 4, "coupling": "fixed"},
    "zipar": {"decoding": "zipar", "zipar_window": 2},
}


def make_model(layers: int = 1) -> Emu3ForCausalLM:
    """Golden weights with heads wide enough for Ascend."""
    ids = {f"{name}_token_id": value for name, value in MARKERS.items()}
    config = Emu3Config(**{**SIZES, **WIDER, "num_hidden_layers": layers}, **ids)
    return set_golden_weights(Emu3ForCausalLM(config)).set_train(False)


def drawn(way: str, jit: bool) -> np.ndarray:
    """The tokens of two guided pictures of 2 x 3 codes."""
    settings = {
        "negative_prompt_ids": [prompt(12, seed=3)[0]],
        "guidance_scale": 2.5,
        "do_sample": True,
        "top_k": 8,
        **WAYS[way],
    }
    return (
        make_model()
        .generate(PROMPTS, image_size=(2, 3), max_new_tokens=12, seed=[1, 2], jit=jit, **settings)
        .asnumpy()
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_step_of_fused_operators_draws_what_the_cpu_draws(way, request):
    wanted = drawn(way, False)
    request.getfixturevalue("exact")
    assert (drawn(way, False) == wanted).all()


@pytest.mark.parametrize("way", ["plain", "jacobi", "zipar"])
def test_compiled_one_by_one_it_draws_the_same(way, request):
    wanted = drawn(way, False)
    request.getfixturevalue("exact")
    assert (drawn(way, True) == wanted).all()


def test_steps_run_as_decoding_and_leave_their_cell_as_it_was(exact, monkeypatch):
    seen = []
    once = blocks.OneByOne.once

    def watched(self, *arguments):
        made = once(self, *arguments)
        seen.append(self.step.phase)
        return made

    monkeypatch.setattr(blocks.OneByOne, "once", watched)
    drawn("plain", True)
    assert len(seen) > 4 and set(seen) == {"predict"}
