"""Checkpoints as the original port's training saves them, converted and loaded."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from emu3.cli import convert as command
from emu3.errors import InputError
from emu3.hub import checkpoint_folder
from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
from emu3.tensorfile import from_bfloat16, to_bfloat16
from emu3.weights import stored_tensors
from tests.support import randomised, tiny_config, write_tokenizer

HEAD = "lm_head.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder that a training began with."""
    folder = tmp_path_factory.mktemp("convert") / "language"
    write_tokenizer(folder)
    randomised(Emu3ForCausalLM(tiny_config()), 0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def weights(base) -> dict[str, np.ndarray]:
    """What the training ended with, by published name."""
    return {name: 2 * entry.read() for name, entry in stored_tensors(base).items()}


def port_name(name: str) -> str:
    name = name.replace("embed_tokens.weight", "embed_tokens.embedding_table")
    return f"network._backbone.{name}"


def save(path, weights: dict[str, np.ndarray], dtype=ms.float32) -> str:
    """A checkpoint as the port saves it, with a counter beside the weights."""
    table = [{"name": port_name(n), "data": Tensor(a, dtype)} for n, a in weights.items()]
    ms.save_checkpoint(table, str(path), append_dict={"epoch_num": 1, "loss_scale": 2.0})
    return str(path)


def run(*files: str, model, output) -> int:
    return command.main([*files, "--model", str(model), "--output", str(output)])


def check(folder, weights, rounded=lambda array: array) -> None:
    loaded = dict(Emu3ForCausalLM.from_pretrained(folder).parameters_and_names())
    for name, array in weights.items():
        np.testing.assert_array_equal(loaded[name].asnumpy(), rounded(array), err_msg=name)


@pytest.mark.parametrize(
    ("dtype", "stored", "rounded"),
    [
        (ms.float32, "F32", lambda array: array),
        (ms.float16, "F16", lambda array: array.astype(np.float16).astype(np.float32)),
        (ms.bfloat16, "BF16", lambda array: from_bfloat16(to_bfloat16(array))),
    ],
)
def test_a_whole_checkpoint_becomes_a_folder_that_loads(
    base, weights, dtype, stored, rounded, tmp_path, capsys
):
    file = save(tmp_path / "emu3-e1.ckpt", weights, dtype)
    assert run(file, model=base, output=tmp_path / "new") == 0
    assert capsys.readouterr().out == f"use it as --model {tmp_path / 'new'}\n"
    check(tmp_path / "new", weights, rounded)
    assert {entry.code for entry in stored_tensors(tmp_path / "new").values()} == {stored}
    assert len(Emu3Tokenizer.from_pretrained(tmp_path / "new"))


def test_the_ranks_of_zero3_are_joined(base, weights, tmp_path):
    """Matrices of the layers are split; embedding, head and norms are whole in each file."""
    files = []
    for rank in (0, 1):
        share = {
            name: np.split(array, 2)[rank] if "proj" in name else array
            for name, array in weights.items()
        }
        files.append(save(tmp_path / f"emu3-e1_op_rank_{(2, 10)[rank]}.ckpt", share))
    assert run(*reversed(files), model=base, output=tmp_path / "new") == 0
    check(tmp_path / "new", weights)
    assert run(files[0], model=base, output=tmp_path / "half") == 2


def test_a_checkpoint_of_another_model_and_what_is_none_are_named(base, weights, tmp_path, capsys):
    less = {name: array for name, array in weights.items() if name != HEAD}
    assert run(save(tmp_path / "a.ckpt", less), model=base, output=tmp_path / "new") == 2
    assert f"a.ckpt holds no {HEAD}" in capsys.readouterr().err
    (tmp_path / "b.ckpt").write_bytes(b"PK\x03\x04 pickled")
    assert run(str(tmp_path / "b.ckpt"), model=base, output=tmp_path / "new") == 2
    assert "b.ckpt is no MindSpore checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_where_a_model_is_asked_for_the_command_is_named(base, tmp_path):
    (tmp_path / "config.json").write_bytes((base / "config.json").read_bytes())
    file = tmp_path / "emu3-e1.ckpt"
    file.write_bytes(b"x")
    with pytest.raises(InputError, match="emu3 convert"):
        checkpoint_folder(file, [])
    with pytest.raises(InputError, match=r"emu3 convert .*emu3-e1.ckpt --model"):
        Emu3ForCausalLM.from_pretrained(tmp_path)
