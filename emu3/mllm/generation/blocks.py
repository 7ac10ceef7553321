"""A block of steps on Ascend: one graph a step, run again and again by a loop in Python.

A loop inside a graph makes Ascend copy its condition to the host each time round, and keeps the
graph from reusing its memory and launches. So the loop is here, while all that goes from step to
step stays on the device. On CPU a block is one graph with its loop. Not run on a card.
"""

from mindspore import Tensor

from emu3 import runtime

# MindSpore keeps memory and launches of graphs whose cell says this word; one method of a cell may.
DECODING = "increment"


class OneByOne:
    """As a step's `construct`, of its `once`, whose arguments have the same shapes every time."""

    def __init__(self, step, jit: bool) -> None:
        self.step, self.jit = step, jit
        self.compiled = runtime.compiled(step.once, jit)

    def __call__(self, *arguments: Tensor):
        return self.step.one_by_one(self.once, *arguments)

    def forget(self) -> None:
        """Forget what the step was compiled to."""
        runtime.forget(self.compiled)

    def once(self, *arguments: Tensor):
        """One step."""
        before = self.step.phase
        if self.jit:
            self.step.phase = DECODING
        try:
            return self.compiled(*arguments)
        finally:
            self.step.phase = before
