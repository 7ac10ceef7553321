"""Memory of activations, alone and where processes share a sequence.

`python -m train.measure.activations`

Every process runs one forward and backward pass of a net with random weights; what is printed is
the growth of its peak memory over what a pass over a short sequence needed (weights, gradients,
kernels). The mask of attention, which every process holds whole, is counted with the rest.
"""

import json
import subprocess
import sys
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor

from emu3 import runtime
from emu3.cli.shell import command, leave
from emu3.mllm import Emu3Config, Emu3ForCausalLM
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.options import option, whole
from emu3.parallel import started_by_launcher
from emu3.parallel.mesh import Mesh, make_mesh
from emu3.parallel.sequence import share_sequence
from train.data.batches import DataSettings, localise
from train.data.samples import Sample
from train.tuning.step import Collect, SummedLoss
from train.tuning.zero import make_units

VOCABULARY, SHORT = 512, 64


@dataclass(frozen=True)
class Options:
    """Of this command."""

    tokens: int = option("length of the sequence", 2048, whole(1, 2**18))
    processes: int = option("that share it", 4, choices=(1, 2, 4, 8))
    mode: str = option("mode", "graph", choices=("pynative", "graph"))
    measure: bool = option("measure this process alone (default: both)", False)


def new_model(tokens: int) -> Emu3ForCausalLM:
    """A net whose activations outweigh its parameters."""
    config = Emu3Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=tokens,
        attention_dropout=0.0,
        pad_token_id=0,
    )
    return Emu3ForCausalLM(config)


def run_pass(collect: Collect, tokens: int, mesh: Mesh) -> None:
    """Forward and backward over one sequence of `tokens`, every second one a label."""
    ids = np.random.default_rng(0).integers(8, VOCABULARY, tokens).astype(np.int32)
    labels = np.where(np.arange(tokens) % 2, ids, IGNORED_LABEL).astype(np.int32)
    sample = Sample(ids, labels, np.arange(tokens, dtype=np.int32), np.zeros_like(ids))
    settings = DataSettings(rows=1, max_length=tokens, pad_to_multiple=1)
    batch = localise([sample], settings, 0, mesh)
    zero, one = Tensor(0.0, ms.float32), Tensor(1.0, ms.float32)
    float(collect(*batch.tensors(), zero, one))


def growth(tokens: int, mode: str) -> tuple[int, Mesh]:
    """Bytes by which this process's peak grows; all processes of the job share the sequence."""
    runtime.setup(mode=mode)
    world = make_mesh(1).world
    mesh = make_mesh(world.size)
    model = new_model(tokens)
    share_sequence(model, mesh.sequence)
    parameters, units = make_units(model, mesh.world, 0, 0.0)
    collect = Collect(SummedLoss(model, tokens), parameters, units, mode).set_train(True)
    run_pass(collect, SHORT, mesh)
    before = runtime.peak_memory_bytes()
    run_pass(collect, tokens, mesh)
    return runtime.peak_memory_bytes() - before, mesh


def measured(options: Options, processes: int) -> int:
    """Run this command again as one process or as a job; bytes of its first process."""
    own = ["train.measure.activations", "--measure", "--mode", options.mode]
    own += ["--tokens", str(options.tokens)]
    job = ["train.launch", "-n", str(processes), *own] if processes > 1 else own
    command = [sys.executable, "-m", *job]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["bytes"]


def run(options: Options) -> int:
    """Print both figures and their ratio."""
    if options.measure or started_by_launcher():
        grown, mesh = growth(options.tokens, options.mode)
        if mesh.world.index == 0:
            print(json.dumps({"bytes": grown}), flush=True)
        return 0
    figures = [measured(options, number) for number in (1, options.processes)]
    for number, figure in zip((1, options.processes), figures):
        print(f"{number} process{'es' * (number > 1)}: {figure / 2**20:.0f} MB a process")
    print(f"share: {figures[1] / figures[0]:.3f}")
    return 0


build_parser, main = command(
    "train.measure.activations",
    "Measure a process's activations, alone and sharing a sequence.",
    Options,
    run,
)

if __name__ == "__main__":
    leave(main())
