"""The peer: a process of its own, asked in turns; torch stays out of everything else."""

import ast
from pathlib import Path

import pytest
from mindspore import nn

from emu3.benchmarks.peer import Peer
from emu3.errors import InputError
from emu3.mllm import Emu3ForCausalLM
from tests.support import tiny_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model() -> nn.Cell:
    return Emu3ForCausalLM(tiny_config())


def test_a_peer_answers_each_word(answering_python, model):
    with Peer(answering_python, "prefill", {"threads": None}, model) as peer:
        assert peer.about == {"ready": True}
        assert peer.seconds() == 1000.0
        assert peer.ask("memory")["word"] == "memory"
        assert peer.ask()["way"] == "prefill"
        folder = Path(peer.folder.name)
    assert peer.process.returncode == 0
    assert not folder.exists()


def test_a_python_without_torch_is_told_how_to_get_it(torchless_python, model):
    with pytest.raises(InputError, match=r"No module named 'torch'.*pip install torch"):
        Peer(torchless_python, "prefill", {}, model)


def test_a_python_without_llama_cpp_is_told_how_to_get_it(torchless_python, model):
    with pytest.raises(InputError, match=r"--peer llama-cpp failed.*pip install llama-cpp-python"):
        Peer(torchless_python, "prefill", {}, model, kind="llama-cpp")


def test_a_python_that_does_not_run_is_named(model):
    with pytest.raises(InputError, match="--peer-python"):
        Peer("/nowhere/python", "prefill", {}, model)


@pytest.mark.parametrize(
    ("package", "modules"),
    [
        ("torch", {"peers_torch.py", "peer_vision_torch.py"}),
        ("llama_cpp", {"peers_llama_cpp.py"}),
        ("gguf", {"peers_llama_cpp.py"}),
    ],
)
def test_only_the_peers_own_modules_import_them_when_they_are_imported(package, modules):
    importing = set()
    for path in (*ROOT.glob("emu3/**/*.py"), *ROOT.glob("train/**/*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == package for name in names):
                importing.add(path.name)
    assert importing == modules
