"""What a checkpoint costs on this machine: `python -m train.measure.stored_weights FOLDER`.

Seconds to load, seconds a token of a guided picture, the share of the machine's read bandwidth,
and the peak of this process's memory, for one form of its weights.
"""

import os
import time
from dataclasses import dataclass

import numpy as np

from emu3 import runtime
from emu3.benchmarks import measure
from emu3.cli import options as shared
from emu3.cli.shell import command, leave
from emu3.estimate import Work, estimate
from emu3.mllm import Emu3ForCausalLM
from emu3.mllm.generation import RowDone
from emu3.options import group, option, path_text, positive_int
from emu3.tokenizer import Emu3VisionVQConfig


@dataclass(frozen=True)
class Options:
    """Of this command."""

    folder: str = option("language model", positional=True, kind=path_text, metavar="FOLDER")
    weights: str | None = shared.weights()
    prompt: int = option("tokens before the picture", 64, positive_int)
    tokens: int = option("tokens that are timed, after as many that are not", 8, positive_int)
    device: shared.Device = group(leave_out=("dtype",))


def run(options: Options) -> None:
    """Load, decode and print."""
    options.device.start()
    threads = options.device.threads or os.cpu_count()
    bandwidth = measure.read_bandwidth(threads)
    begun = time.perf_counter()
    model = Emu3ForCausalLM.from_pretrained(options.folder, weights=options.weights)
    loaded = time.perf_counter() - begun
    after_loading = runtime.peak_memory_bytes()
    seconds, first = decoded(model, options)
    work = Work(prompt=options.prompt, grid=(3, options.tokens - 1), width=4, weights=model.weights)
    needed = estimate(model.config, Emu3VisionVQConfig(), work)
    print(f"{measure.machine()}; reads {bandwidth / 1e9:.1f} GB/s")
    print(f"{needed.language_parameters / 1e9:.2f} G parameters, weights in {model.weights}")
    print(f"loading      {loaded:8.1f} s, peak {after_loading / 1e9:.2f} GB")
    print(f"first row    {first:8.1f} s, prompt and compilation among them")
    print(f"a token      {seconds:8.3f} s, guided: two rows")
    print(
        f"read a token {needed.step / 1e9:8.2f} GB, {needed.step / seconds / bandwidth:.0%} of it"
    )
    print(f"peak         {runtime.peak_memory_bytes() / 1e9:8.2f} GB")


def decoded(model: Emu3ForCausalLM, options: Options) -> tuple[float, float]:
    """Seconds a token in the second row of a guided picture, and of all up to the first."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, min(1000, model.config.img_token_id), (1, options.prompt), np.int32)
    ids[:, -1] = model.config.img_token_id
    begun = time.perf_counter()
    events = model.stream(
        ids,
        negative_prompt_ids=ids[:, options.prompt // 2 :],
        image_size=(3, options.tokens - 1),
        guidance_scale=3.0,
        do_sample=True,
        top_k=2048,
        seed=0,
        jit=options.device.jit,
    )
    rows = (event for event in events if isinstance(event, RowDone))
    next(rows)
    first = time.perf_counter()
    next(rows)
    return (time.perf_counter() - first) / options.tokens, first - begun


build_parser, main = command(
    "train.measure.stored_weights", "Measure loading, decoding and memory.", Options, run
)

if __name__ == "__main__":
    leave(main())
