"""The chunked loss: exact, whatever the chunks."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from train.tuning.loss import HeadLoss, HeadScores

N, C, V = 40, 12, 30


class Scaled(nn.Cell):
    """3 times the loss, so that the slope from above matters."""

    def __init__(self, weight: np.ndarray, logits_at_once: int) -> None:
        super().__init__()
        self.weight = Parameter(Tensor(weight), name="weight")
        self.loss = HeadLoss(logits_at_once)

    def construct(self, hidden, labels):
        return 3.0 * self.loss(hidden, self.weight, labels)[0]


def inputs():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(N, C)).astype(np.float32)
    weight = rng.normal(size=(V, C)).astype(np.float32)
    labels = rng.integers(0, V, N).astype(np.int32)
    labels[::5] = IGNORED_LABEL
    return hidden, weight, labels


def expected(hidden, weight, labels):
    logits = (hidden @ weight.T).astype(np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    rows = np.flatnonzero(labels != IGNORED_LABEL)
    loss = -np.log(shares[rows, labels[rows]]).sum()
    shares[rows, labels[rows]] -= 1
    shares[labels == IGNORED_LABEL] = 0
    return loss, shares @ weight, shares.T @ hidden


@pytest.fixture(params=[ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])
def mode(request):
    ms.set_context(mode=request.param)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize("logits_at_once", [2**20, V * 7, 1])
def test_loss_and_gradients_are_exact_in_chunks_of_any_size(logits_at_once, mode):
    hidden, weight, labels = inputs()
    net = Scaled(weight, logits_at_once)
    gradient = ms.value_and_grad(net, grad_position=0, weights=net.trainable_params())
    loss, (by_hidden, by_weight) = gradient(Tensor(hidden), Tensor(labels))
    wanted = expected(hidden, weight, labels)
    np.testing.assert_allclose(float(loss) / 3, wanted[0], rtol=1e-6)
    np.testing.assert_allclose(by_hidden.asnumpy() / 3, wanted[1], atol=1e-5)
    np.testing.assert_allclose(by_weight[0].asnumpy() / 3, wanted[2], atol=1e-5)


def test_without_labels_the_loss_and_its_gradients_are_zero():
    hidden, weight, labels = inputs()
    net = Scaled(weight, V * 7)
    gradient = ms.value_and_grad(net, grad_position=0, weights=net.trainable_params())
    none = np.full_like(labels, IGNORED_LABEL)
    loss, (by_hidden, by_weight) = gradient(Tensor(hidden), Tensor(none))
    assert float(loss) == 0
    assert not by_hidden.asnumpy().any() and not by_weight[0].asnumpy().any()


@pytest.mark.parametrize("logits_at_once", [2**20, V * 7, 1])
def test_evaluation_counts_the_loss_and_the_likeliest_in_chunks_of_any_size(logits_at_once, mode):
    hidden, weight, labels = inputs()
    likeliest = (hidden @ weight.T).argmax(1)
    labels[1::5] = likeliest[1::5]
    scores = HeadScores(logits_at_once)(Tensor(hidden), Tensor(weight), Tensor(labels)).asnumpy()
    np.testing.assert_allclose(scores[0], expected(hidden, weight, labels)[0], rtol=1e-6)
    assert scores[1] == (likeliest == labels).sum() >= N // 5
