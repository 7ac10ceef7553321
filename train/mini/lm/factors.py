"""What names have in common: rows of tables that all names with a colour, a kind or a tile share.

A tile of a house in red and one in blue differ in their colour alone. While the model learns, the
rows of both, in the embedding and in the head, get the same addition for what they share, so a word
that means red has one direction to learn, not one for each tile.
"""

from typing import TYPE_CHECKING

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from emu3.nn.linear import Weighted
from train.mini.world.cells import kind_count, name_factors, unmet_names

if TYPE_CHECKING:
    from emu3.mllm import Emu3ForCausalLM

UNMET_LENGTH = 0.05  # of an embedding, where those of learnt names are about 1
SLOWER = 0.3  # a step moves hundreds of rows one way, so it is to be smaller than a row's own


class SharedRows(nn.Cell):
    """What factors add to the last rows of a table (V, C), nothing at first.

    Args:
        table: the table.
        factors: (names, F), which factors each name has, for the last `names` rows.
    """

    def __init__(self, table: Parameter, factors: np.ndarray) -> None:
        super().__init__()
        (count, width), (names, size) = table.shape, factors.shape
        self.factors = Tensor(factors)
        self.words = Tensor(np.zeros((count - names, width), np.float32))
        rows = Tensor(np.zeros((size, width), np.float32))
        self.shared = Parameter(rows, name=f"{table.name}.shared")
        self.matmul, self.concat = ops.MatMul(), ops.Concat()

    def construct(self, weight: Tensor) -> Tensor:
        """The table with what is added."""
        added = SLOWER * self.matmul(self.factors, self.shared)
        return weight + self.concat((self.words, added))


def tables(model: "Emu3ForCausalLM") -> tuple[Weighted, Weighted]:
    """The two that have a row for each id."""
    return model.model.embed_tokens, model.lm_head


def share_rows(model: "Emu3ForCausalLM") -> None:
    """Let names learn together what they have in common."""
    for table in tables(model):
        table.rows = SharedRows(table.weight, name_factors())


def write_rows(model: "Emu3ForCausalLM") -> None:
    """Write what was added into the tables, which are then as they were before `share_rows`."""
    for table in tables(model):
        table.weight.set_data(table.rows(table.weight))
        table.rows = None
    shorten(model)


def shorten(model: "Emu3ForCausalLM") -> None:
    """Make the embeddings of names that were never learnt short, by which fine-tuning finds them.

    They began as long as the others, since embeddings begin as projections of likeness.
    """
    table = model.model.embed_tokens.weight
    rows = table.asnumpy()
    unmet = len(rows) - kind_count() + unmet_names()
    lengths = np.linalg.norm(rows[unmet], axis=1, keepdims=True)
    rows[unmet] *= np.where(lengths > 1.01 * UNMET_LENGTH, UNMET_LENGTH / lengths, 1)
    table.set_data(Tensor(rows))
