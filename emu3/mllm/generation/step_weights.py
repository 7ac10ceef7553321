"""The weights as the decoding step wants them: few large matrices instead of many small ones.

Small networks spend their time between the kernels, so q, k, v and gate, up are joined there. The
copies are refreshed at the start of every generation, since training may have moved the originals.
Large networks read the originals: joining gains little there and would double the memory.
"""

from mindspore import Parameter, Tensor, ops

FUSE_BELOW_BYTES = 512 * 2**20


class StepWeights:
    """Per layer: `qkv[i]` and `gate_up[i]`, each one joined matrix or the list of its parts.

    `head(first, stop)` gives the head's rows for the candidates first..stop-1.
    """

    def __init__(self, model) -> None:
        layers = model.model.layers
        size = sum(p.nbytes for layer in layers for p in layer.get_parameters())
        self.fused = size <= FUSE_BELOW_BYTES
        self._joined: list[tuple[Parameter, list[Parameter]]] = []
        self._all_rows = model.lm_head.weight
        self._heads: dict[tuple[int, int], Parameter] = {}
        self.qkv, self.gate_up = [], []
        for i, layer in enumerate(layers):
            attention, mlp = layer.self_attn, layer.mlp
            qkv = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
            self.qkv.append(self._join(f"step.{i}.qkv", qkv))
            gate_up = [mlp.gate_proj.weight, mlp.up_proj.weight]
            self.gate_up.append(self._join(f"step.{i}.gate_up", gate_up))

    def head(self, first: int, stop: int) -> Parameter:
        """(stop - first, C): a copy of those rows, or the head itself when it is all of them."""
        if (first, stop) == (0, self._all_rows.shape[0]):
            return self._all_rows
        if (first, stop) not in self._heads:
            rows = self._head_rows(first, stop)
            head = Parameter(rows, name=f"step.head.{first}", requires_grad=False)
            self._heads[first, stop] = head
        return self._heads[first, stop]

    def refresh(self) -> None:
        """Copy the originals again."""
        for joined, parts in self._joined:
            ops.assign(joined, ops.concat(parts, 0))
        for rows, head in self._heads.items():
            ops.assign(head, self._head_rows(*rows))

    def _join(self, name: str, parts: list[Parameter]) -> list[Parameter]:
        if not self.fused:
            return parts
        joined = Parameter(ops.concat(parts, 0), name=name, requires_grad=False)
        self._joined.append((joined, parts))
        return [joined]

    def _head_rows(self, first: int, stop: int) -> Tensor:
        width = self._all_rows.shape[1]
        return ops.Slice()(self._all_rows, (first, 0), (stop - first, width))
