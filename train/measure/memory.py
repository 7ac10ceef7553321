"""Peak memory of the head and its loss, in chunks and whole: `python -m train.measure.memory`.

Each way runs in a process of its own, forward and backward; what is printed is its peak beyond
inputs, weight and the weight's gradient. "Whole" is the formula, differentiated by MindSpore; it
is measured with an eighth and a quarter of the labels and extended along the line through both, for
all of them would fill most machines. Gradients are compared on a problem that fits.
"""

import json
import subprocess
import sys
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from emu3 import runtime
from emu3.cli.shell import command, leave
from emu3.options import option, whole
from train.tuning.loss import LOGITS_AT_ONCE, HeadLoss


class Head(nn.Cell):
    """A head and its loss, at most so many logits at once."""

    def __init__(self, weight: np.ndarray, logits_at_once: int) -> None:
        super().__init__()
        self.weight = Parameter(Tensor(weight), name="weight")
        self.loss = HeadLoss(logits_at_once)

    def construct(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """hidden (N, C), labels (N,) -> ()."""
        return self.loss(hidden, self.weight, labels)[0]


class Whole(Head):
    """The formula, differentiated by MindSpore."""

    def construct(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """As Head."""
        logits = ops.MatMul(transpose_b=True)(hidden, self.weight)
        logits = logits - ops.stop_gradient(logits.max(-1, keepdims=True))
        chosen = ops.gather_elements(logits, 1, labels.expand_dims(1))[:, 0]
        return (ops.log(ops.exp(logits).sum(-1)) - chosen).sum()


WAYS = {"chunked": (Head, LOGITS_AT_ONCE), "whole": (Whole, 0)}


@dataclass(frozen=True)
class Options:
    """Of this command."""

    tokens: int = option("labels", 4200, whole(1, 2**18))
    classes: int = option("vocabulary", 184622, whole(1, 2**20))
    width: int = option("hidden width", 256, whole(1, 2**16))
    mode: str = option("mode", "pynative", choices=("pynative", "graph"))
    way: str | None = option(
        "measure this way alone, in this process (default: compare both)", choices=WAYS
    )


def gradients(way: str, tokens: int, classes: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Gradients by hidden and weight of one pass over random data."""
    rng = np.random.default_rng(0)
    kind, logits_at_once = WAYS[way]
    net = kind(rng.normal(0, 0.02, (classes, width)).astype(np.float32), logits_at_once)
    hidden = Tensor(rng.normal(size=(tokens, width)).astype(np.float32))
    labels = Tensor(rng.integers(0, classes, tokens).astype(np.int32))
    value_and_grad = ms.value_and_grad(net, grad_position=0, weights=net.trainable_params())
    _, (by_hidden, by_weight) = value_and_grad(hidden, labels)
    return by_hidden.asnumpy(), by_weight[0].asnumpy()


def peak_beyond_arrays(way: str, tokens: int, classes: int, width: int, mode: str) -> int:
    """Peak bytes of a pass in this process beyond imports, inputs, weight and its gradient."""
    runtime.setup(device="CPU", mode=mode)
    gradients(way, 8, 16, 8)  # kernels and compiler are loaded
    before = runtime.peak_memory_bytes()
    gradients(way, tokens, classes, width)
    arrays = 4 * (2 * classes * width + 2 * tokens * width)
    return runtime.peak_memory_bytes() - before - arrays


def measured(way: str, tokens: int, options: Options) -> int:
    """`peak_beyond_arrays` of a process of its own."""
    command = [sys.executable, "-m", "train.measure.memory", "--way", way, "--mode", options.mode]
    command += ["--tokens", str(tokens), "--classes", str(options.classes)]
    command += ["--width", str(options.width)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1])


def run(options: Options) -> int:
    """Measure both ways and print the comparison."""
    if options.way:
        sizes = (options.tokens, options.classes, options.width)
        print(json.dumps(peak_beyond_arrays(options.way, *sizes, options.mode)))
        return 0
    chunked = measured("chunked", options.tokens, options)
    eighth, quarter = (measured("whole", options.tokens // n, options) for n in (8, 4))
    whole = quarter + 6 * (quarter - eighth)
    print(f"chunked {chunked / 2**20:8.0f} MB beyond arrays")
    print(f"whole   {whole / 2**20:8.0f} MB, from {eighth / 2**20:.0f} and {quarter / 2**20:.0f}")
    print(f"share   {chunked / whole:8.3f}")
    runtime.setup(device="CPU", mode=options.mode)
    small = [gradients(way, 300, options.classes, 32) for way in ("chunked", "whole")]
    for name, first, second in zip(("hidden", "weight"), *small):
        apart = np.linalg.norm(first - second) / np.linalg.norm(second)
        print(f"gradient by {name}: relative difference {apart:.1e}")
    return 0


build_parser, main = command(
    "train.measure.memory", "Measure the peak memory of the head and its loss.", Options, run
)

if __name__ == "__main__":
    leave(main())
