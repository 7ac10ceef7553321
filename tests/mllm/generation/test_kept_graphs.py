"""Compiled steps that are kept: what names one, and what becomes of the files."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from emu3 import runtime
from emu3.mllm.generation.step import Step, StepKind
from emu3.mllm.generation.step_weights import StepWeights
from emu3.nn import graphs
from tests.cli.pictures import codes
from tests.mllm.generation.conftest import prompt
from tests.support import write_tiny_checkpoint

ROOT = Path(graphs.PACKAGE).parent


class Part(nn.Cell):
    """A cell with parts of many kinds."""

    def __init__(self, width=3, constant=1.0, axis=0, inner=None, names=("a",)) -> None:
        super().__init__()
        self.width, self.names = width, names
        self.constant = Tensor(np.full(2, constant, np.float32))
        self.split = ops.Split(axis, 1)
        self.inner = inner or nn.ReLU()
        self.weight = ms.Parameter(Tensor(np.zeros(width, np.float32)), name="weight")


ONE = (Tensor(np.zeros(3, np.float32)),)


def test_equal_cells_have_one_name():
    assert graphs.name_of(Part(), ONE) == graphs.name_of(Part(), ONE)


@pytest.mark.parametrize(
    "other",
    [
        {"width": 4},
        {"constant": 2.0},
        {"axis": 1},
        {"inner": nn.Sigmoid()},
        {"names": ("b",)},
    ],
)
def test_cells_that_differ_in_any_part_have_other_names(other):
    assert graphs.name_of(Part(), ONE) != graphs.name_of(Part(**other), ONE)


def test_values_of_weights_are_no_part_of_a_name_and_shapes_of_arguments_are():
    changed = Part()
    changed.weight.set_data(Tensor(np.ones(3, np.float32)))
    assert graphs.name_of(Part(), ONE) == graphs.name_of(changed, ONE)
    assert graphs.name_of(Part(), ONE) != graphs.name_of(Part(), (Tensor(np.zeros(4)),))


def test_a_part_of_an_unknown_kind_has_no_name():
    with pytest.raises(graphs.Unnamed):
        graphs.name_of(Part(names=iter(())), ONE)


def test_steps_of_other_sizes_have_other_names(model):
    request = model.request([prompt(5)[0]], image_size=(4, 4))
    kind, weights = StepKind.of(request, 1), StepWeights(model)
    steps = [Step(model, weights, replace(kind, slots=slots)) for slots in (128, 144, 128)]
    first, longer, again = (graphs.name_of(step, ONE) for step in steps)
    assert first == again != longer


def test_only_what_was_asked_for_is_kept_and_once(monkeypatch):
    monkeypatch.setattr(runtime, "_asked", set())
    assert not runtime.keeps_graph()
    runtime.keep_first_graph()
    assert runtime.keeps_graph()
    assert not runtime.keeps_graph()


def test_nothing_is_kept_of_a_program_that_is_no_file_whatever_it_is_called_later(monkeypatch):
    assert graphs._folder(Part(), ONE) is not None
    monkeypatch.setattr(graphs.api, "entry_script_path", "/no/program")
    assert graphs._folder(Part(), ONE) is None


def test_the_longest_unused_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "KEPT", 2)
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    work = tmp_path / "work"
    work.mkdir()
    (work / "file").write_text("graph")
    work.rename(tmp_path.parent / "work")
    graphs._keep(tmp_path.parent / "work", tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "new"]
    assert (tmp_path / "made" / "file").read_text() == "graph"


def test_a_command_takes_the_graph_of_the_one_before_and_mends_a_broken_one(tmp_path):
    """The same picture from a new graph, a kept one and a damaged one."""
    language, vision = write_tiny_checkpoint(tmp_path / "tiny")
    environment = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
        "GLOG_v": "4",
        "CXX": "/no/compiler",  # kernels would be built anew in that cache
    }
    kept = tmp_path / "cache" / "emu3-mindspore" / "graphs"
    found, sizes = [], []
    for turn in range(3):
        output = tmp_path / str(turn)
        arguments = ["--model", str(language), "--vq-model", str(vision), "--output", str(output)]
        command = [sys.executable, "-m", "emu3.cli.img_gen", *arguments]
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=120)
        found.append(codes(output))
        (file,) = kept.glob("*/rank_0/graph_cache/*.mindir")
        sizes.append(file.stat().st_size)
        if turn == 1:
            file.chmod(0o600)
            file.write_bytes(b"broken")
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
    assert sizes[0] == sizes[1] and sizes[2] > len(b"broken")
