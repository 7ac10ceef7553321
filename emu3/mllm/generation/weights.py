"""The weights as the decoding step wants them: few large matrices instead of many small ones.

Small networks spend their time between the kernels, so q, k, v and gate, up are joined there. The
copies are refreshed at the start of every generation, since training may have moved the originals.
Large networks read the originals: joining gains little there and would double the memory.
"""

from mindspore import Parameter, Tensor, ops

FUSE_BELOW_BYTES = 512 * 2**20


class StepWeights:
    """Weights of every layer, and the rows of the head that can be sampled.

    `head_range` (first, last + 1) are the candidates' ids.
    """

    def __init__(self, model, head_range: tuple[int, int]) -> None:
        layers = model.model.layers
        size = sum(p.nbytes for layer in layers for p in layer.get_parameters())
        self.fused = size <= FUSE_BELOW_BYTES
        self.head_range = head_range
        self.sources: list[tuple[Parameter, list[Parameter]]] = []
        self.qkv, self.gate_up = [], []
        for i, layer in enumerate(layers):
            attention, mlp = layer.self_attn, layer.mlp
            qkv = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
            self.qkv.append(self._join(f"step.{i}.qkv", qkv))
            gate_up = [mlp.gate_proj.weight, mlp.up_proj.weight]
            self.gate_up.append(self._join(f"step.{i}.gate_up", gate_up))
        self.head_source = model.lm_head.weight
        self.head = self.head_source
        if head_range != (0, self.head_source.shape[0]):
            self.head = Parameter(self._head_rows(), name="step.head", requires_grad=False)

    def _join(self, name: str, parts: list[Parameter]) -> list[Parameter]:
        """One joined matrix when fusing, else the parts themselves."""
        if not self.fused:
            return parts
        joined = Parameter(ops.concat(parts, 0), name=name, requires_grad=False)
        self.sources.append((joined, parts))
        return [joined]

    def _head_rows(self) -> Tensor:
        first, last = self.head_range
        return self.head_source.value()[first:last]

    def refresh(self) -> None:
        """Copy the originals again."""
        for joined, parts in self.sources:
            ops.assign(joined, ops.concat(parts, 0))
        if self.head is not self.head_source:
            ops.assign(self.head, self._head_rows())
