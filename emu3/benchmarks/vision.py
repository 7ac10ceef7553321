"""The vision tokenizer: a picture, or a clip, to codes and back; PyTorch in turns if wanted."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emu3.benchmarks import measure
from emu3.benchmarks.nets import in_dtype
from emu3.benchmarks.peer import Peer, PeerOptions
from emu3.benchmarks.table import Row, show
from emu3.cli.options import Device
from emu3.errors import InputError
from emu3.loading import RELEASED, load_vision
from emu3.options import group, option, path_text, whole

if TYPE_CHECKING:
    from emu3.tokenizer import Emu3VisionVQModel

PEER_NAME = "torch, reference's way: all frames through everything"


@dataclass(frozen=True)
class Options:
    """Of `vq-image` and `vq-clip`."""

    vq_model: str = option(
        f"vision tokenizer: {RELEASED} for random weights at the released size, or a folder",
        RELEASED,
        path_text,
        metavar="PATH",
    )
    height: int = option("pixels from top to bottom", 256, whole(1, 2**15))
    width: int = option("pixels from left to right", 256, whole(1, 2**15))
    batch_size: int = option("pictures or clips together", 1, whole(1, measure.MOST_TOGETHER))
    repeats: int = option(
        "times measured, after one that is not", 3, whole(1, measure.MOST_REPEATS)
    )
    against: PeerOptions = group()
    device: Device = group(leave_out=("attn_implementation",))


def run_image(options: Options) -> None:
    """Measure still pictures."""
    run(options, frames=None)


def run_clip(options: Options) -> None:
    """Measure clips of the frames that share one latent frame."""
    run(options, frames=4)


def load(options: Options) -> "Emu3VisionVQModel":
    """The vision tokenizer asked for."""
    from emu3.tokenizer import Emu3VisionVQConfig, Emu3VisionVQModel

    if options.vq_model == RELEASED:
        model = Emu3VisionVQModel(Emu3VisionVQConfig())
        return in_dtype(model, options.device.dtype).set_train(False)
    return load_vision(options.vq_model, options.device.dtype)[0]


def run(options: Options, frames: int | None) -> None:
    """Measure `encode` and `decode`, memory first, and print both and their sum."""
    from mindspore import Tensor

    options.device.start()
    model = load(options)
    size = (model.config.in_channels, options.height, options.width)
    shape = (options.batch_size, *((frames,) if frames else ()), *size)
    if min(options.height, options.width) < model.spatial_scale_factor:
        raise InputError(
            f"{options.width}x{options.height} pixels; allowed: {model.spatial_scale_factor} or "
            "more each way; change --height or --width"
        )
    pixels = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    inputs, made = Tensor(pixels), {}

    def encode() -> None:
        made["codes"] = model.encode(inputs)
        made["codes"].asnumpy()

    def decode() -> None:
        model.decode(made["codes"]).asnumpy()

    print(measure.machine())
    memory = {"emu3": measure.peak_above(lambda: (encode(), decode()))}
    runs = {
        "emu3 encode": lambda: measure.timed(encode),
        "emu3 decode": lambda: measure.timed(decode),
    }
    with ExitStack() as stack:
        if options.against.peer:
            settings = {"config": model.config.to_dict(), "threads": options.device.threads}
            peer = Peer(options.against.peer_python, "vision", settings, model, {"pixels": pixels})
            answer = stack.enter_context(peer).ask("memory")
            memory["torch"] = answer["bytes"]
            equal = np.array(answer["codes"]) == made["codes"].asnumpy().ravel()
            print(f"codes that agree with the peer's: {equal.mean():.2%}")
            runs["torch encode"] = lambda: peer.seconds("encode")
            runs["torch decode"] = lambda: peer.seconds("decode")
        timings = measure.take_turns(runs, options.repeats)
    show(rows(timings, memory, options, str(model.dtype).lower(), frames or 1))


def rows(
    timings: dict[str, measure.Timing],
    memory: dict[str, int],
    options: Options,
    precision: str,
    frames: int,
) -> list[Row]:
    """Encode, decode and both, of each who took part."""
    images = options.batch_size * frames
    mode = "graph" if options.device.mode == "graph" else "pynative"
    lines = []
    for name in memory:
        parts = [timings[f"{name} encode"], timings[f"{name} decode"]]
        both = measure.Timing([a + b for a, b in zip(*(part.seconds for part in parts))])
        for what, timing in zip(("encode", "decode", "encode + decode"), (*parts, both)):
            ours = lines[len(lines) - 3].timing if name != "emu3" else None
            lines.append(
                Row(
                    f"{name if name == 'emu3' else PEER_NAME}: {what}",
                    timing,
                    mode=mode if not ours else "",
                    precision=precision if not ours else "float32",
                    batch=images,
                    resolution=f"{options.width}x{options.height}",
                    rate=images,
                    unit="img/s",
                    memory=memory[name] if what == "encode + decode" else None,
                    against=ours,
                )
            )
    return lines
