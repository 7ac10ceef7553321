"""Low-rank adaptation (LoRA, Hu et al. 2021, arXiv:2106.09685) of an Emu3 language model.

weight + (alpha / rank) * B @ A with A (rank, in) and B (out, rank); B starts at zero.
"""

from collections.abc import Sequence

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from emu3.errors import InputError
from emu3.mllm import Emu3ForCausalLM
from emu3.nn.linear import Linear

WHOLE = ("embed_tokens", "lm_head")
ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LowRank(nn.Cell):
    """What is added to a frozen Linear: x (..., in) -> (..., out)."""

    def __init__(self, linear: Linear, rank: int, alpha: float, rng: np.random.Generator) -> None:
        super().__init__()
        width, out = linear.weight.shape[1], linear.out_features
        start = rng.uniform(-1, 1, (rank, width)) / np.sqrt(width)
        dtype = linear.weight.dtype
        self.lora_A = Parameter(Tensor(start.astype(np.float32), dtype))
        self.lora_B = Parameter(Tensor(np.zeros((out, rank), np.float32), dtype))
        self.scale = alpha / rank
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, rows: Tensor) -> Tensor:
        """rows (n, in) -> (n, out)."""
        return self.matmul(self.matmul(rows, self.lora_A), self.lora_B) * self.scale

    def change(self) -> np.ndarray:
        """What the adapter adds to the weight, float32 (out, in)."""
        first, second = (p.asnumpy().astype(np.float32) for p in (self.lora_A, self.lora_B))
        return self.scale * (second @ first)


def adapt(
    model: Emu3ForCausalLM, rank: int, alpha: float, seed: int, whole: Sequence[str] = ()
) -> None:
    """Freeze the model and give every projection of its layers an adapter.

    `whole` names those of `WHOLE` that are trained themselves: ids that the model has never met
    need rows of their own, which no low rank gives them.

    Raises:
        InputError: a rank below 1 or an alpha that is not above 0.
    """
    if rank < 1 or not alpha > 0:
        raise InputError(
            f"LoRA rank {rank}, alpha {alpha}; allowed: at least 1, above 0; change --lora_rank, "
            "--lora_alpha"
        )
    rng = np.random.default_rng((seed, 4))
    for parameter in model.get_parameters():
        parameter.requires_grad = False
    for name, cell in model.cells_and_names():
        if name.rsplit(".", 1)[-1] in whole:
            cell.weight.requires_grad = True
    for name, cell in list(model.model.layers.cells_and_names()):
        if isinstance(cell, Linear) and name.rsplit(".", 1)[-1] in ADAPTED:
            cell.adapter = LowRank(cell, rank, alpha, rng)
    for name, parameter in model.parameters_and_names():
        parameter.name = name  # adapters are new: their names must be their places


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter, not to the published model."""
    return ".adapter." in name


def merged(model: nn.Cell) -> dict[str, np.ndarray]:
    """The adapted weights with their adapters added, float32, by published name."""
    return {
        f"{name}.weight": cell.weight.asnumpy().astype(np.float32) + cell.adapter.change()
        for name, cell in model.cells_and_names()
        if isinstance(cell, Linear) and cell.adapter is not None
    }
