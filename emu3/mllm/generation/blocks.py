"""How a block of steps runs: on CPU as one graph, on Ascend as one graph a step, again and again.

A loop inside a graph makes Ascend copy its condition to the host each time round, and keeps the
graph from reusing its memory and launches. So the loop is in Python there, while all that goes
from step to step stays on the device. Not run on a card.
"""

from collections.abc import Callable

import mindspore as ms

from emu3 import runtime

# MindSpore keeps memory and launches of graphs whose cell says this word; one method of a cell may.
DECODING = "increment"


def compiled(method: Callable, jit: bool) -> Callable:
    """The method of a cell as the device wants it compiled, or itself."""
    if not jit:
        return method
    if runtime.on_ascend():
        return ms.jit(method, jit_level="O0", infer_boost="on")
    return ms.jit(method)


def block_of(step, jit: bool) -> Callable:
    """`step.construct`, which runs a block of steps, as the device wants it."""
    if not runtime.on_ascend():
        return compiled(step.construct, jit)
    once = OneStep(step, jit)
    return lambda *arguments: step.one_by_one(once, *arguments)


class OneStep:
    """`step.once`, compiled as a step of decoding; its arguments always have the same shapes."""

    def __init__(self, step, jit: bool) -> None:
        self.step, self.jit = step, jit
        self.once = compiled(step.once, jit)

    def __call__(self, *arguments):
        if not self.jit:
            return self.once(*arguments)
        before, self.step.phase = self.step.phase, DECODING
        try:
            return self.once(*arguments)
        finally:
            self.step.phase = before
