"""What a run is going to do, before it spends device time."""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from emu3.mllm import Emu3ForCausalLM
    from emu3.parallel.mesh import Mesh
    from train.data.batches import Data
    from train.tuning.options import Options

GIB = 2**30


def describe_plan(
    options: "Options", model: "Emu3ForCausalLM", data: "Data", steps: int, mesh: "Mesh"
) -> str:
    """Steps, data, parameters, memory of a process and files, as lines of text."""
    rows = data.settings.rows * mesh.data_size
    a_step = rows * options.schedule.gradient_accumulation_steps
    stage, output = options.parallel.ms_zero_stage, options.output
    sizes = [(p.size, p.requires_grad) for p in model.get_parameters()]
    total, trained = sum(n for n, _ in sizes), sum(n for n, grad in sizes if grad)
    lines = [
        f"processes  {mesh.world.size}: {mesh.data_size} x {mesh.sequence.size} shards a sequence",
        f"steps      {steps}, {a_step} rows each, at most {data.settings.max_length} tokens a row",
    ]
    for number, source in enumerate(data.sources):
        epochs = data.passes * float(data.order.shares[number]) * rows / len(source.files)
        lines.append(f"data       {len(source.files)} samples, {epochs:.2f} epochs")
    looked_at = range(min(4, data.passes))
    lengths = np.concatenate([_lengths(data, index) for index in looked_at])
    memory = memory_of_a_process(total, trained, stage, mesh.world.size)
    saved = (total * 4 + trained * 12) / GIB
    return "\n".join(
        [
            *lines,
            f"rows       {int(np.mean(lengths))} tokens on the mean of the first {len(lengths)}",
            f"parameters {total:,}, of which {trained:,} are trained",
            f"memory     {memory / GIB:.2f} GiB a process for weights, gradients and optimizer "
            f"in float32 at ZeRO stage {stage}; activations come on top",
            f"files      {output.output_dir}: log.csv, settings.json, every {output.save_steps} "
            f"steps a checkpoint of at most {saved:.2f} GiB, {output.save_total_limit} kept",
        ]
    )


def memory_of_a_process(total: int, trained: int, stage: int, processes: int) -> int:
    """Bytes of weights, gradients, masters and moments, all float32."""
    share = math.ceil(trained / processes)
    weights = total if stage < 3 else total - trained + share
    gradients = trained if stage < 2 else share
    state = 3 * (trained if stage < 1 else share)
    return 4 * (weights + gradients + state)


def _lengths(data: "Data", index: int) -> np.ndarray:
    return (data.batch(index).branches >= 0).sum(1)
