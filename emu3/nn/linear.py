"""Linear and Embedding under the published parameter names (`weight`, `bias`).

Both call the kernels that are fast on CPU and exist on Ascend: `forms.MatMul` on two axes, and
Gather. Weights of Linear are stored (out, in).
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import Initializer, Normal, initializer
from mindspore.nn.utils import no_init_parameters

from emu3 import runtime
from emu3.errors import InputError
from emu3.nn import ascend, forms


class PaddedNormal(Initializer):
    """normal(0, sigma) whose row `pad` is zero; an index outside the table zeroes nothing."""

    def __init__(self, sigma: float, pad: int | None) -> None:
        super().__init__(sigma=sigma, pad=pad)
        self.sigma = sigma
        self.pad = pad

    def _initialize(self, arr) -> None:
        Normal(self.sigma)(arr)
        if self.pad is not None and 0 <= self.pad < arr.shape[0]:
            arr[self.pad] = 0


class Weighted(nn.Cell):
    """What Linear and Embedding share: a weight that this process may hold in another form."""

    def __init__(self) -> None:
        super().__init__()
        self.gather = None  # set where `weight` is this process's share of it: the whole again
        self.rows = None  # set where a cell changes rows of the weight
        self.form = "float32"  # of the weight's values
        self.stored = None  # set by `hold`: computes with a weight of 16 or 8 bits
        self.weight_scale = None  # of 8 bits, see emu3.nn.forms
        self.by_lines = False  # set where single lines of the weight are taken
        self.turned = False  # whether weight and scales are held transposed

    def takes(self, form: str) -> bool:
        """Whether the weight can be of a form: on Ascend not where single lines are taken."""
        return form != "float32" and not (runtime.on_ascend() and self.by_lines)

    def hold(self, form: str) -> None:
        """Make the weight one of a form of `emu3.nn.forms`, to be filled by `fill`.

        Raises:
            InputError: on Ascend, a weight too large or too narrow for its operator.
        """
        if runtime.on_ascend():
            self._hold_turned()
            return
        size, columns = self.weight.shape
        self.form = form
        kept = self.kept(form)
        self.weight = _empty((size, columns), forms.DTYPES[kept], self.weight.name)
        self.stored = self.user(self.weight.dtype) if kept != "float32" else None
        self.weight_scale = None
        if kept == "int8":
            shape = (size, -(-columns // forms.GROUP))
            self.weight_scale = _empty(shape, ms.float32, f"{self.weight.name}_scale")

    def _hold_turned(self) -> None:
        """As `hold` in int8, as Ascend's operator wants it: weight and scales transposed."""
        size, columns = self.weight.shape
        if not forms.GROUP < columns <= ascend.WIDEST or size > ascend.WIDEST:
            raise InputError(
                f"weights int8: {self.weight.name} is ({size}, {columns}); allowed on Ascend: up "
                f"to {ascend.WIDEST} each, more than {forms.GROUP} columns; change --weights"
            )
        self.form, self.turned = "int8", True
        self.weight = _empty((columns, size), ms.int8, self.weight.name)
        shape = (-(-columns // forms.GROUP), size)
        self.weight_scale = _empty(shape, ms.float32, f"{self.weight.name}_scale")
        self.stored = ascend.Int8Product(forms.GROUP)

    def fill(self, *parts: np.ndarray, dtype: ms.Type = ms.float32) -> None:
        """Take the values of the form held: the weight, and scales (on Ascend in `dtype`)."""
        if self.turned:
            weight, scale = (Tensor.from_numpy(part.T.copy()) for part in parts)
            self.weight.set_data(weight)
            self.weight_scale.set_dtype(dtype)
            self.weight_scale.set_data(scale.astype(dtype))
            return
        if self.weight.dtype == ms.float32 and parts[0].dtype == forms.bfloat16:
            parts = (parts[0].astype(np.float32),)
        for parameter, part in zip(self.parts(), parts):
            parameter.set_data(Tensor.from_numpy(part))

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's as it is published: (out or count, width)."""
        return self.weight.shape[::-1] if self.turned else self.weight.shape

    def kept(self, form: str) -> str:
        """The form in which this process can hold values of `form`."""
        return form

    def parts(self) -> tuple[Parameter, ...]:
        """The weight, and its scales if it has some."""
        return (self.weight,) if self.weight_scale is None else (self.weight, self.weight_scale)

    def whole(self) -> Tensor:
        """The weight (out or count, width) that counts."""
        weight = self.weight if self.gather is None else self.gather(self.weight)
        return weight if self.rows is None else self.rows(weight)


def _empty(shape: tuple[int, ...], dtype: ms.Type, name: str) -> Parameter:
    with no_init_parameters():
        return Parameter(initializer("zeros", shape, dtype), name=name, requires_grad=False)


class Linear(Weighted):
    """x (..., in) -> (..., out): x @ weight^T + bias; weight (out, in), bias (out,) or absent."""

    user = forms.Product

    def __init__(
        self,
        in_features: int,
        out_features: int,
        has_bias: bool = False,
        sigma: float = 0.02,
        dtype: ms.Type = ms.float32,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        self.weight = Parameter(initializer(Normal(sigma), (out_features, in_features), dtype))
        self.bias = Parameter(initializer("zeros", (out_features,), dtype)) if has_bias else None
        self.adapter = None  # set where a cell adds to what the weight gives
        self.matmul = forms.MatMul()

    def is_plain(self) -> bool:
        """Whether `weight`, in float32, is all that counts."""
        whole = self.gather is None and self.rows is None and self.stored is None
        alone = self.bias is None and self.adapter is None
        return whole and alone and self.weight.dtype == ms.float32

    def construct(self, x: Tensor) -> Tensor:
        rows = x.reshape((-1, x.shape[-1]))
        if self.stored is None:
            y = self.matmul(rows, self.whole())
        else:
            y = self.stored(rows, *self.parts())
        if self.bias is not None:
            y = ops.bias_add(y, self.bias)
        if self.adapter is not None:
            y = y + self.adapter(rows)
        return y.reshape((*x.shape[:-1], self.out_features))


class Embedding(Weighted):
    """ids (...) int -> rows (..., width) of weight (count, width)."""

    user = forms.Lines

    def __init__(
        self,
        count: int,
        width: int,
        sigma: float = 0.02,
        pad: int | None = None,
        dtype: ms.Type = ms.float32,
    ) -> None:
        super().__init__()
        self.weight = Parameter(initializer(PaddedNormal(sigma, pad), (count, width), dtype))
        self.by_lines = True

    def kept(self, form: str) -> str:
        """As `Weighted.kept`: without our kernel nothing takes single lines of bfloat16."""
        plain = form == "bfloat16" and forms.lines_kernel(form) is None
        return "float32" if plain else form

    def construct(self, ids: Tensor) -> Tensor:
        if self.stored is None:
            return ops.gather(self.whole(), ids, 0)
        return self.stored(ids, *self.parts())
