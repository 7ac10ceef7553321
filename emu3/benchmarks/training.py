"""A fine-tuning step on a net with random weights; PyTorch's on the same numbers if wanted."""

import argparse
from contextlib import ExitStack

import numpy as np

from emu3.benchmarks import measure, nets
from emu3.benchmarks.peer import Peer, add_peer_options
from emu3.benchmarks.table import Row, show
from emu3.cli import common, flags
from emu3.errors import InputError

LEARNING_RATE, DECAY = 1e-5, 0.1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of `sft`."""
    nets.add_net_options(parser)
    flags.add_numbers(
        parser,
        ("--batch-size", 2, "samples of a step"),
        ("--length", 256, "tokens of a sample"),
        ("--labels", 192, "tokens of a sample that count, its last ones"),
        ("--repeats", 5, "steps measured, after one that is not"),
    )
    add_peer_options(parser)
    common.add_device_options(parser)


def run(options: argparse.Namespace) -> None:
    """Measure and print whole steps: forward, backward, clipping, AdamW."""
    if options.labels >= options.length:
        raise InputError(
            f"{options.labels} labels of {options.length} tokens; allowed: up to "
            f"{options.length - 1}; change --labels or --length"
        )
    if options.mode == "auto":
        options.mode = "graph"  # as training does
    common.start_device(options)
    net = nets.chosen_net(options)
    model = nets.random_model(net, options.length, options)
    ids = nets.random_prompts(net, options.batch_size, options.length)
    print(measure.machine())
    with ExitStack() as stack:
        runs = {}
        if options.peer:
            settings = vars(net) | {
                "ids": ids.tolist(),
                "labels": counted(ids, options.labels).tolist(),
                "lr": LEARNING_RATE,
                "decay": DECAY,
                "threads": options.threads,
            }
            peer = Peer(options.peer_python, "sft", settings, model)
            runs["torch"] = stack.enter_context(peer).seconds
        runs = {"emu3": our_step(model, ids, options.labels, options.mode), **runs}
        timings = measure.take_turns(runs, options.repeats)
    show(rows(timings, model, options))


def counted(ids: np.ndarray, labels: int) -> np.ndarray:
    """Labels in place (B, T): the last `labels` ids of each row, -100 before."""
    from emu3.mllm.modeling_emu3 import IGNORED_LABEL

    kept = np.arange(ids.shape[1]) >= ids.shape[1] - labels
    return np.where(kept, ids, IGNORED_LABEL)


def our_step(model, ids: np.ndarray, labels: int, mode: str):
    """A function that runs one step and gives its seconds; the first one compiles."""
    import mindspore as ms
    from mindspore import Tensor

    from emu3.parallel.mesh import ALONE, Mesh
    from train.step import Collect, Reduce, SummedLoss, Update
    from train.zero import make_units

    batch, length = ids.shape
    parameters, units = make_units(model, ALONE, 0, DECAY)
    collect = Collect(SummedLoss(model, length), parameters, units, mode).set_train(True)
    reduce = Reduce(units, Mesh(ALONE, ALONE))
    update = Update(units, (0.9, 0.95), 1e-8, 1.0)
    places = np.arange(batch)[:, None] * length + np.arange(length - labels, length) - 1
    arrays = (
        ids,
        np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape),
        np.zeros_like(ids),
        places.reshape(-1).astype(np.int32),
        ids[:, -labels:].reshape(-1),
    )
    inputs = [Tensor(np.ascontiguousarray(array)) for array in arrays]
    keep, scale, rate = (Tensor(x, ms.float32) for x in (0.0, 1.0, LEARNING_RATE))

    def step() -> None:
        loss = float(collect(*inputs, keep, scale))
        _, norm = reduce(Tensor(np.array([loss, batch * labels, 0], np.float32)), scale)
        update(norm, rate).asnumpy()

    return lambda: measure.timed(step)


def rows(timings: dict, model, options: argparse.Namespace) -> list[Row]:
    """One line each."""
    shared = {
        "batch": options.batch_size,
        "resolution": f"{options.length} tokens, {options.labels} count",
        "rate": options.batch_size * options.length,
    }
    millions = sum(p.size for p in model.get_parameters()) / 1e6
    attention = model.model.layers[0].self_attn.attention
    lines = [
        Row(
            f"emu3 SFT step, {millions:.0f} M",
            timings["emu3"],
            options.mode,
            str(model.dtype).lower(),
            attention=attention,
            **shared,
        )
    ]
    if "torch" in timings:
        against = timings["emu3"]
        lines.append(Row("torch", timings["torch"], precision="float32", against=against, **shared))
    return lines
