"""Compare training in several processes with one.

`python -m train.launch -n 4 train.measure.parity`

Every process also trains a small model alone on all the data; loss, gradients and weights of the
shared run must agree with it. Relative difference of two tensors: norm(a - b) / norm(b).
"""

import json
import os
import sys
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor

from emu3 import runtime
from emu3.cli.shell import command
from emu3.files import atomic_path
from emu3.mllm import Emu3Config, Emu3ForCausalLM
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.options import option, whole
from emu3.parallel.mesh import ALONE, Mesh, make_mesh
from emu3.parallel.sequence import share_sequence
from train.data.batches import DataSettings, localise
from train.data.samples import Sample
from train.tuning.states import States
from train.tuning.step import Collect, Reduce, SummedLoss, Totals, Update
from train.tuning.zero import make_units, share_weights

VOCABULARY, ROWS, LENGTH, PASSES = 96, 4, 21, 2
RATE, EPSILON, DECAY, MAX_NORM = 1e-3, 1e-6, 0.1, 0.5
LIMIT = 1e-5


@dataclass(frozen=True)
class Options:
    """Of this command."""

    mode: str = option("mode", "pynative", choices=("pynative", "graph"))
    steps: int = option("optimizer steps", 5, whole(1, 10_000))
    output: str | None = option("JSON file for the figures (default: none)", metavar="FILE")


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: the loss of each step, the first step's gradients, the weights."""

    losses: np.ndarray
    gradients: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]


def cases(processes: int) -> list[tuple[int, int]]:
    """(sequence shards, ZeRO stage) worth comparing among so many processes."""
    shards = [n for n in (1, 2, 4) if processes % n == 0]
    several = [(n, 0) for n in shards] + [(shards[0], stage) for stage in (1, 2, 3)]
    return several + [(shards[-1], 3)] + [(2, 2)] * (processes == 4)


def small_model() -> Emu3ForCausalLM:
    """A model with 8 heads and 2 key/value heads, the same in every process."""
    config = Emu3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=64,
        attention_dropout=0.0,
        pad_token_id=0,
    )
    model = Emu3ForCausalLM(config)
    rng = np.random.default_rng(0)
    for parameter in model.get_parameters():
        start = rng.normal(0, 0.05, parameter.shape) + (parameter.ndim < 2)
        parameter.set_data(Tensor(start.astype(np.float32)))
    return model


def samples(index: int) -> list[Sample]:
    """Rows of several lengths, one a process's share of the data each."""
    rng = np.random.default_rng((1, index))
    rows = []
    for row in range(ROWS):
        length = LENGTH - row
        ids = rng.integers(8, VOCABULARY, length).astype(np.int32)
        labels = np.where(rng.random(length) < 0.5, ids, IGNORED_LABEL)
        labels[0] = IGNORED_LABEL
        order = np.arange(length, dtype=np.int32)
        rows.append(Sample(ids, labels.astype(np.int32), order, np.zeros_like(ids)))
    return rows


def train(mesh: Mesh, stage: int, options: Options) -> Outcome:
    """A few steps with accumulation, decay and clipping."""
    model = small_model()
    shapes = {name: tuple(p.shape) for name, p in model.parameters_and_names()}
    share_sequence(model, mesh.sequence)
    if stage == 3:
        share_weights(model, mesh.world)
    parameters, units = make_units(model, mesh.world, stage, DECAY)
    collect = Collect(SummedLoss(model, 64), parameters, units, options.mode).set_train(True)
    reduce, update = Reduce(units, mesh), Update(units, (0.9, 0.95), EPSILON, MAX_NORM)
    states = States(units, shapes, mesh)
    rows = ROWS // mesh.data_size
    mine = slice(mesh.data_index * rows, (mesh.data_index + 1) * rows)
    settings = DataSettings(rows=rows, max_length=LENGTH, pad_to_multiple=1)
    scale, losses, gradients = Tensor(8.0, ms.float32), [], {}
    for step in range(options.steps):
        loss, labels = 0.0, 0
        for number in range(PASSES):
            batch = localise(samples(step * PASSES + number)[mine], settings, 0, mesh)
            keep = Tensor(float(number > 0), ms.float32)
            loss += float(collect(*batch.tensors(), keep, scale))
            labels += batch.label_count
        summed, norm = reduce(Totals(loss, labels, 0).tensor(), scale)
        update(norm, Tensor(RATE, ms.float32))
        totals = Totals(*summed.asnumpy())
        losses.append(float(totals.loss) / float(totals.labels))
        gradients = gradients or states.whole("exp_avg")
    return Outcome(np.array(losses), gradients, states.whole("master"))


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """The largest relative difference of tensors of one name."""
    return max(float(np.linalg.norm(a[n] - b[n]) / np.linalg.norm(b[n])) for n in b)


def run(options: Options) -> int:
    """Print a line a case; returns 1 when one differs by more than LIMIT."""
    runtime.setup(mode=options.mode)
    meshes = {1: make_mesh(1)}
    world = meshes[1].world
    alone, lines, worst = train(Mesh(ALONE, ALONE), 0, options), [], 0.0
    for shards, stage in cases(world.size):
        if shards not in meshes:
            meshes[shards] = make_mesh(shards)
        shared = train(meshes[shards], stage, options)
        figures = {
            "processes": world.size,
            "sequence_shards": shards,
            "zero_stage": stage,
            "loss": float(np.abs(shared.losses / alone.losses - 1).max()),
            "gradients": difference(shared.gradients, alone.gradients),
            "weights": difference(shared.weights, alone.weights),
        }
        lines.append(figures)
        worst = max(worst, *(figures[name] for name in ("loss", "gradients", "weights")))
        if world.index == 0:
            print(json.dumps(figures), flush=True)
    if options.output and world.index == 0:
        with atomic_path(options.output) as path:
            path.write_text(json.dumps(lines), encoding="utf-8")
    return int(worst > LIMIT)


build_parser, main = command(
    "train.measure.parity", "Compare training in several processes with one.", Options, run
)

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is written, and MindSpore has crashed (SIGSEGV) while it was taken down
