"""The resume state: exact, and refused when it is another model's."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from emu3.errors import InputError
from train.mini.options import RunOptions
from train.mini.runs import Run, load_state, save_state


class Pair(nn.Cell):
    def __init__(self, value: float, size: int = 3) -> None:
        super().__init__()
        self.a = Parameter(Tensor(np.full(size, value, np.float32)), name="a")
        self.step = Parameter(Tensor(int(value), ms.int32), name="step")


def test_parameters_and_values_come_back(tmp_path):
    save_state(tmp_path / "s.safetensors", Pair(7.5), {"step": 3})
    cell = Pair(0)
    assert load_state(tmp_path / "s.safetensors", cell) == {"step": 3}
    np.testing.assert_array_equal(cell.a.asnumpy(), 7.5)
    assert int(cell.step) == 7


def test_another_models_state_is_refused(tmp_path):
    save_state(tmp_path / "s.safetensors", Pair(1), {})
    with pytest.raises(InputError, match="shape"):
        load_state(tmp_path / "s.safetensors", Pair(1, size=4))


def test_a_truncated_state_is_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    save_state(path, Pair(1), {})
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="cannot read"):
        load_state(path, Pair(1))


def test_each_step_gets_its_own_batch(tmp_path):
    options = RunOptions(output=str(tmp_path), state=str(tmp_path / "s.safetensors"))
    run = Run(options, 3, Pair(1))
    assert list(run.steps_with(lambda step: 10 * step)) == [(0, 0), (1, 10), (2, 20)]
    run = Run(options, 5, Pair(1))
    assert list(run.steps_with(lambda step: 10 * step)) == [(3, 30), (4, 40)]
