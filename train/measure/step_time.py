"""A fine-tuning step on a net with random weights: `python -m train.measure.step_time`.

PyTorch's on the same numbers if wanted, in turns with ours: read the ratio, not the seconds.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from emu3.benchmarks import measure, nets
from emu3.benchmarks.peer import Peer, PeerOptions
from emu3.benchmarks.table import Row, show
from emu3.cli.options import Device
from emu3.cli.shell import command, leave
from emu3.errors import InputError
from emu3.names import PRODUCTS
from emu3.options import group, option, whole

if TYPE_CHECKING:
    from emu3.mllm import Emu3ForCausalLM

LEARNING_RATE, DECAY = 1e-5, 0.1


@dataclass(frozen=True)
class Options:
    """Of this command.

    Raises:
        InputError: as many labels as tokens.
    """

    net: nets.NetOptions = group()
    batch_size: int = option("samples of a step", 2, whole(1, 4096))
    length: int = option("tokens of a sample", 256, whole(1, 2**18))
    labels: int = option("tokens of a sample that count, its last ones", 192, whole(1, 2**18))
    repeats: int = option("steps measured, after one that is not", 5, whole(1, 10_000))
    products: str = option(
        "what factors of our products are rounded to", "float32", choices=PRODUCTS
    )
    against: PeerOptions = group()
    device: Device = group()

    def __post_init__(self) -> None:
        if self.labels >= self.length:
            raise InputError(
                f"{self.labels} labels of {self.length} tokens; allowed: up to "
                f"{self.length - 1}; change --labels or --length"
            )

    @property
    def training_device(self) -> Device:
        """The device; in graph mode unless another is asked for, as in training."""
        return replace(self.device, mode="graph") if self.device.mode == "auto" else self.device


def run(options: Options) -> None:
    """Measure and print whole steps: forward, backward, clipping, AdamW."""
    device, net = options.training_device, options.net.sizes
    device.start()
    model = nets.random_model(net, options.length, device)
    ids = nets.random_prompts(net, options.batch_size, options.length)
    print(measure.machine())
    with ExitStack() as stack:
        runs = {}
        if options.against.peer:
            settings = vars(net) | {
                "ids": ids.tolist(),
                "labels": counted(ids, options.labels).tolist(),
                "lr": LEARNING_RATE,
                "decay": DECAY,
                "threads": device.threads,
            }
            peer = Peer(options.against.peer_python, "sft", settings, model)
            runs["torch"] = stack.enter_context(peer).seconds
        runs = {"emu3": our_step(model, ids, options, device.mode), **runs}
        timings = measure.take_turns(runs, options.repeats)
    show(rows(timings, model, options))


def counted(ids: np.ndarray, labels: int) -> np.ndarray:
    """Labels in place (B, T): the last `labels` ids of each row, -100 before."""
    from emu3.mllm.modeling_emu3 import IGNORED_LABEL

    kept = np.arange(ids.shape[1]) >= ids.shape[1] - labels
    return np.where(kept, ids, IGNORED_LABEL)


def our_step(
    model: "Emu3ForCausalLM", ids: np.ndarray, options: Options, mode: str
) -> Callable[[], float]:
    """A function that runs one step and gives its seconds; the first one compiles."""
    import mindspore as ms
    from mindspore import Tensor

    from emu3.nn.short_products import use_products
    from emu3.parallel.mesh import ALONE, Mesh
    from train.tuning.step import Collect, Reduce, SummedLoss, Totals, Update
    from train.tuning.zero import make_units

    (batch, length), labels = ids.shape, options.labels
    parameters, units = make_units(model, ALONE, 0, DECAY)
    collect = Collect(SummedLoss(model, length), parameters, units, mode).set_train(True)
    use_products(collect, options.products)
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
        _, norm = reduce(Totals(loss, batch * labels, 0).tensor(), scale)
        update(norm, rate).asnumpy()

    return lambda: measure.timed(step)


def rows(
    timings: dict[str, measure.Timing], model: "Emu3ForCausalLM", options: Options
) -> list[Row]:
    """One line each."""
    rounded = "" if options.products == "float32" else f", {options.products} products"
    cells = {
        "batch": options.batch_size,
        "resolution": f"{options.length} tokens, {options.labels} count",
        "rate": options.batch_size * options.length,
    }
    millions = sum(p.size for p in model.get_parameters()) / 1e6
    lines = [
        Row(
            f"emu3 SFT step, {millions:.0f} M{rounded}",
            timings["emu3"],
            options.training_device.mode,
            str(model.dtype).lower(),
            attention=model.model.layers[0].self_attn.attention,
            **cells,
        )
    ]
    if "torch" in timings:
        against = timings["emu3"]
        lines.append(Row("torch", timings["torch"], precision="float32", against=against, **cells))
    return lines


build_parser, main = command("train.measure.step_time", "Measure a fine-tuning step.", Options, run)

if __name__ == "__main__":
    leave(main())
