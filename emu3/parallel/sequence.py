"""Sequence parallelism by trading heads for positions (DeepSpeed-Ulysses, Jacobs et al. 2023).

Each process holds T / N of the T positions everywhere but in attention, where it holds all T
positions for H / N of the heads.
"""

import math

from mindspore import Tensor, nn, ops

from emu3.errors import InputError
from emu3.parallel.collectives import AllToAll
from emu3.parallel.mesh import Group


class HeadExchange(nn.Cell):
    """What an attention layer needs to see the whole sequence for its share of the heads.

    Key/value heads are exchanged as they are where the shards divide them, else each is repeated
    just as often as makes them divide.

    Raises:
        InputError: the shards do not divide the query heads.
    """

    def __init__(self, group: Group, heads: int, kv_heads: int) -> None:
        super().__init__()
        if heads % group.size:
            raise InputError(
                f"{group.size} sequence shards do not divide {heads} attention heads; allowed: "
                "a divisor of the heads; change --sequence_parallel_shards"
            )
        self.size, self.repeats = group.size, group.size // math.gcd(kv_heads, group.size)
        self.split_heads = AllToAll(group, scatter=1, gather=2)
        self.split_sequence = AllToAll(group, scatter=1, gather=2)

    def to_heads(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """query (B, H, T / N, D), key and value (B, G, T / N, D) -> all T, a share of the heads.

        All three travel in one exchange.
        """
        if self.repeats > 1:
            key, value = _repeated(key, self.repeats), _repeated(value, self.repeats)
        b, h, t, d = query.shape
        by_shard = ops.concat([self._by_shard(x) for x in (query, key, value)], 2)
        mine = self.split_heads(by_shard.reshape((b, -1, t, d)))
        q, k = h // self.size, key.shape[1] // self.size
        return mine[:, :q], mine[:, q : q + k], mine[:, q + k :]

    def _by_shard(self, x: Tensor) -> Tensor:
        """(B, H, t, D) -> (B, N, H / N, t, D)."""
        b, h, t, d = x.shape
        return x.reshape((b, self.size, h // self.size, t, d))

    def to_sequence(self, x: Tensor) -> Tensor:
        """x (B, T, C / N), a share of the heads -> (B, T / N, C)."""
        return self.split_sequence(x)


def _repeated(x: Tensor, times: int) -> Tensor:
    """(B, G, T, D) -> (B, G * times, T, D), each head `times` times in a row."""
    b, g, t, d = x.shape
    return ops.tile(x.expand_dims(2), (1, 1, times, 1, 1)).reshape((b, g * times, t, d))


def share_sequence(model: nn.Cell, group: Group) -> None:
    """Make every attention layer of an Emu3 model exchange heads within `group`.

    The model then takes this process's chunk of embeddings, cos and sin, and the bias of the
    whole sequence.
    """
    config = model.config
    if group.size == 1:
        return
    for layer in model.model.layers:
        layer.self_attn.exchange = HeadExchange(
            group, config.num_attention_heads, config.num_key_value_heads
        )
