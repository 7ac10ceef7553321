"""The language model compiled, by ms.jit and in graph mode, equals itself run step by step."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from emu3.mllm.rotary import causal_bias, rope_table
from tests.tiny import golden_model, random_ids


def inputs_of_the_core(model, ids):
    """Embeddings, tables and bias that `Emu3Model.hidden` takes."""
    tokens = ids.shape[1]
    cos, sin = (Tensor(part[None]) for part in rope_table(model.config, tokens))
    embeds = model.model.embed_tokens(Tensor(ids))
    return embeds, cos, sin, Tensor(causal_bias(np.ones((1, tokens)), tokens))


def test_core_compiled_with_jit_equals_pynative():
    model, ids = golden_model(), random_ids(2, 7)
    core, inputs = model.model, inputs_of_the_core(model, ids)

    @ms.jit
    def compiled(embeds, cos, sin, bias):
        return core.hidden(embeds, cos, sin, bias)

    plain = model(Tensor(ids), output_hidden_states=True).hidden_states[-1]
    np.testing.assert_allclose(compiled(*inputs).asnumpy(), plain.asnumpy(), atol=1e-4)


class MeanSquare(nn.Cell):
    """A loss on the logits that holds the whole model, as a training cell does."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def construct(self, ids, cos, sin, bias):
        embeds = self.network.model.embed_tokens(ids)
        logits = self.network.lm_head(self.network.model.hidden(embeds, cos, sin, bias))
        return (logits * logits).mean()


def test_training_cell_compiles_in_graph_mode_to_the_same_gradients():
    model, ids = golden_model(attention_dropout=0.0, num_hidden_layers=1), random_ids(2, 5)
    cell, weights = MeanSquare(model.set_train(True)), model.trainable_params()
    inputs = (Tensor(ids), *inputs_of_the_core(model, ids)[1:])
    step = ms.value_and_grad(cell, None, weights)
    plain_loss, plain = step(*inputs)
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        loss, gradients = ms.value_and_grad(cell, None, weights)(*inputs)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert float(loss) == pytest.approx(float(plain_loss), rel=1e-5)
    for one, other in zip(gradients, plain):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), atol=1e-5)


def test_graph_mode_equals_pynative():
    model, ids = golden_model(num_hidden_layers=1), Tensor(random_ids(2, 5))
    plain = model(ids, labels=ids)
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        graph = model(ids, labels=ids)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    np.testing.assert_allclose(graph.logits.asnumpy(), plain.logits.asnumpy(), atol=1e-4)
    assert float(graph.loss) == pytest.approx(float(plain.loss), abs=1e-5)
