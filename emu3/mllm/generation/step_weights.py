"""The weights as the decoding step wants them: few large matrices instead of many small ones.

Small networks spend their time between the kernels, so q, k, v and gate, up are joined there. The
copies are refreshed at the start of a generation when something has moved the originals, such as
training: reading them all to see it takes a third of the time of copying.
Large networks read the originals: joining gains little there and would double the memory. Weights
of 16 or 8 bits are never joined: their kernel takes several matrices.
"""

from collections.abc import Callable

from mindspore import Parameter, Tensor, ops

FUSE_BELOW_BYTES = 512 * 2**20


class StepWeights:
    """Per layer: `qkv[i]` and `gate_up[i]`, each one joined matrix or the list of its parts.

    `head(first, stop)` gives the head's rows for the candidates first..stop-1. A matrix is a tuple:
    its weight, and the scales of 8 bits.
    """

    def __init__(self, model) -> None:
        layers = model.model.layers
        size = sum(p.nbytes for layer in layers for p in layer.get_parameters())
        self.fused = size <= FUSE_BELOW_BYTES and layers[0].self_attn.q_proj.stored is None
        self._joined: list[tuple[Parameter, list[Parameter]]] = []
        self._all_rows = model.lm_head.parts()
        self._heads: dict[tuple[int, int], tuple[Parameter, ...]] = {}
        self._marks: bytes | None = None
        self.qkv, self.gate_up = [], []
        for i, layer in enumerate(layers):
            attention, mlp = layer.self_attn, layer.mlp
            qkv = [attention.q_proj.parts(), attention.k_proj.parts(), attention.v_proj.parts()]
            self.qkv.append(self._join(f"step.{i}.qkv", qkv))
            gate_up = [mlp.gate_proj.parts(), mlp.up_proj.parts()]
            self.gate_up.append(self._join(f"step.{i}.gate_up", gate_up))

    def head(self, first: int, stop: int) -> tuple[Parameter, ...]:
        """(stop - first, C): a copy of those rows, or the head itself when it is all of them."""
        if (first, stop) == (0, self._all_rows[0].shape[0]):
            return self._all_rows
        if (first, stop) not in self._heads:
            self._heads[first, stop] = tuple(
                Parameter(
                    _rows(part, first, stop), name=f"step.head.{first}.{i}", requires_grad=False
                )
                for i, part in enumerate(self._all_rows)
            )
        return self._heads[first, stop]

    def refresh(self, marking: Callable[..., Tensor] | None = None) -> None:
        """Copy the originals again; not where `marking` (`marks_kernel`) gives them the marks that
        they had at the last time."""
        had, self._marks = self._marks, self._marked(marking)
        if self._marks is not None and self._marks == had:
            return
        for joined, parts in self._joined:
            ops.assign(joined, ops.concat(parts, 0))
        for rows, head in self._heads.items():
            for copy, part in zip(head, self._all_rows):
                ops.assign(copy, _rows(part, *rows))

    def _marked(self, marking: Callable[..., Tensor] | None) -> bytes | None:
        parts = [part for _, parts in self._joined for part in parts]
        parts += self._all_rows if self._heads else ()
        return marking(*parts).asnumpy().tobytes() if marking and parts else None

    def _join(
        self, name: str, matrices: list[tuple[Parameter, ...]]
    ) -> list[tuple[Parameter, ...]]:
        if not self.fused:
            return matrices
        weights = [weight for (weight,) in matrices]
        joined = Parameter(ops.concat(weights, 0), name=name, requires_grad=False)
        self._joined.append((joined, weights))
        return [(joined,)]


def _rows(part: Parameter, first: int, stop: int) -> Tensor:
    return ops.Slice()(part, (first, 0), (stop - first, part.shape[1]))
