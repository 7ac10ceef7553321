"""What a run is going to do, before it spends device time."""

from typing import TYPE_CHECKING

import numpy as np

from train.tuning.fitting import look, memory_of_a_process

if TYPE_CHECKING:
    from emu3.mllm import Emu3ForCausalLM
    from emu3.parallel.mesh import Mesh
    from train.data.batches import Data
    from train.tuning.options import Options

GIB = 2**30
LOOKED_AT = 4096  # samples of a source


def describe_plan(
    options: "Options", model: "Emu3ForCausalLM", data: "Data", steps: int, mesh: "Mesh"
) -> str:
    """Steps, data, parameters, memory of a process and files, as lines of text.

    Raises:
        InputError: no sample of a source fits into a row.
    """
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
        remark = str(look(data, number, LOOKED_AT))
        remark = f"; {remark}" if remark else ""
        lines.append(f"data       {len(source.files)} samples, {epochs:.2f} epochs{remark}")
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
            f"files      {output.output_dir}: log.csv, settings.yaml, every {output.save_steps} "
            f"steps a checkpoint of at most {saved:.2f} GiB, {output.save_total_limit} kept",
        ]
    )


def _lengths(data: "Data", index: int) -> np.ndarray:
    return (data.batch(index).branches >= 0).sum(1)
