"""Low-rank adaptation (LoRA, Hu et al. 2021, arXiv:2106.09685) of an Emu3 language model.

weight + (alpha / rank) * B @ A with A (rank, in) and B (out, rank); B starts at zero.

Ids that a model has never met need rows of their own in both tables, which no low rank gives them;
all other rows are left alone. Such ids are known by their short embeddings, which decayed in
training and never got a gradient (Land & Bartolo 2024, arXiv:2405.05417).
"""

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from emu3.arrays import as_numpy
from emu3.errors import InputError
from emu3.mllm import Emu3ForCausalLM
from emu3.nn.linear import Embedding, Linear

ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

# Embeddings of ids never met are shorter than this share of what the longest twentieth exceeds.
SHORT = 0.25


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


class NewRows(nn.Cell):
    """What is added to the rows of a frozen table (V, C) whose ids (n,) a model has never met."""

    def __init__(self, table: Linear | Embedding, ids: np.ndarray) -> None:
        super().__init__()
        start = np.zeros((len(ids), table.weight.shape[1]), np.float32)
        self.change_of_rows = Parameter(Tensor(start, table.weight.dtype))
        self.ids = Tensor(ids.astype(np.int32)[:, None])

    def construct(self, weight: Tensor) -> Tensor:
        """weight (V, C) -> weight with its new rows (V, C)."""
        # Ascend's TensorScatterAdd takes no bfloat16, its TensorScatterUpdate does.
        rows = ops.gather_nd(weight, self.ids) + self.change_of_rows
        return ops.tensor_scatter_update(weight, self.ids, rows)

    def change(self, shape: tuple[int, ...]) -> np.ndarray:
        """What is added to a table of this shape, float32."""
        whole = np.zeros(shape, np.float32)
        whole[self.ids.asnumpy()[:, 0]] = as_numpy(self.change_of_rows)
        return whole


def never_met(model: Emu3ForCausalLM) -> np.ndarray:
    """Ids (n,) int64, ascending, whose embeddings were never trained; padding is none of them."""
    lengths = np.linalg.norm(as_numpy(model.model.embed_tokens.weight).astype(np.float32), axis=1)
    ids = np.flatnonzero(lengths < SHORT * np.quantile(lengths, 0.95))
    return ids[ids != model.config.pad_token_id]


def adapt(
    model: Emu3ForCausalLM, rank: int, alpha: float, seed: int, new_rows: bool = False
) -> None:
    """Freeze the model and give every projection of its layers an adapter.

    With `new_rows` both tables also get trained rows for the ids that `never_met` finds.

    Raises:
        InputError: a rank below 1, an alpha that is not above 0, or no ids for `new_rows`.
    """
    if rank < 1 or not alpha > 0:
        raise InputError(
            f"LoRA rank {rank}, alpha {alpha}; allowed: at least 1, above 0; change --lora_rank, "
            "--lora_alpha"
        )
    rng = np.random.default_rng((seed, 4))
    for parameter in model.get_parameters():
        parameter.requires_grad = False
    if new_rows:
        ids = never_met(model)
        if not len(ids):
            raise InputError("the model has met all of its ids; leave out --lora_new_rows")
        for table in (model.model.embed_tokens, model.lm_head):
            table.rows = NewRows(table, ids)
    for name, cell in list(model.model.layers.cells_and_names()):
        if isinstance(cell, Linear) and name.rsplit(".", 1)[-1] in ADAPTED:
            cell.adapter = LowRank(cell, rank, alpha, rng)
    for name, parameter in model.parameters_and_names():
        parameter.name = name  # adapters are new: their names must be their places


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter, not to the published model."""
    return ".adapter." in name or ".rows." in name


def merged(model: nn.Cell) -> dict[str, np.ndarray]:
    """The adapted weights with their adapters and rows added, float32, by published name."""
    changes = {}
    for name, cell in model.cells_and_names():
        if isinstance(cell, Linear) and cell.adapter is not None:
            changes[name] = cell, cell.adapter.change()
        elif isinstance(cell, Linear | Embedding) and cell.rows is not None:
            changes[name] = cell, cell.rows.change(cell.weight.shape)
    return {
        f"{name}.weight": as_numpy(cell.weight).astype(np.float32) + change
        for name, (cell, change) in changes.items()
    }
