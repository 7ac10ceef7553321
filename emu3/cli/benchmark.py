"""Benchmarks: `python -m emu3.cli.benchmark decode [--peer torch]`.

The net has random weights of a given size; times are medians over blocks of steps after
compilation. The peer, PyTorch's Llama from transformers with its growing cache, runs in a process
of its own right after, so that both see the same machine: read the ratio, not the milliseconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from emu3.cli import common
from emu3.errors import InputError

READ_BYTES = 2**28
SIZES = {
    "hidden": (512, "width"),
    "layers": (8, "decoder layers"),
    "heads": (8, "attention heads"),
    "kv-heads": (4, "key and value heads"),
    "inner": (1376, "width of the MLP"),
    "vocabulary": (33000, "ids"),
    "visual": (None, "ids that can be sampled, the last of the vocabulary"),
    "sequences": (1, "pictures together"),
    "prefix": (512, "tokens in the cache at the start"),
    "block": (16, "steps between two readings"),
    "repeats": (9, "blocks timed"),
}


@dataclass(frozen=True)
class Timing:
    """Milliseconds per step, one number per block, and what came before."""

    steps: list[float]
    compile_seconds: float

    @property
    def median(self) -> float:
        """Middle of the blocks' times."""
        return statistics.median(self.steps)

    def line(self, name: str) -> str:
        """Name, median and spread."""
        return (
            f"{name:<28}{self.median:8.2f} ms/token  (fastest {min(self.steps):.2f}, "
            f"slowest {max(self.steps):.2f})"
        )


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = common.make_parser("benchmark", "Measure speed.")
    parser.add_argument("what", choices=["decode"], help="what to measure")
    parser.add_argument(
        "--peer", choices=["torch"], help="also run transformers on PyTorch, in this same run"
    )
    parser.add_argument(
        "--peer-python",
        default=sys.executable,
        metavar="PYTHON",
        help="the Python that has torch and transformers (default: this one)",
    )
    group = parser.add_argument_group("size of the net")
    for name, (default, what) in SIZES.items():
        group.add_argument(
            f"--{name}",
            type=common.positive_int,
            default=default,
            metavar="N",
            help=f"{what} (default: {'all of them' if default is None else default})",
        )
    group.add_argument(
        "--guidance",
        type=common.non_negative_float,
        default=3.0,
        metavar="G",
        help="1 runs one row per picture, anything else two (default: %(default)s)",
    )
    common.add_device_options(parser)
    return parser


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    common.start_device(options)
    rows = options.sequences * (1 if options.guidance == 1 else 2)
    bandwidth = read_bandwidth(options.threads or os.cpu_count())
    ours, weights, cache = time_decoding(options)
    print(f"{weights / 1e6:.0f} MB of weights a step, {rows} rows, {os.cpu_count()} cores")
    print(f"{'memory read':<28}{bandwidth / 1e9:8.1f} GB/s")
    print(ours.line("emu3, compiled"))
    rate = (weights + cache) / ours.median * 1e3
    print(
        f"{'':<28}{rate / 1e9:8.1f} GB/s, {rate / bandwidth:.0%} of it; "
        f"compiled in {ours.compile_seconds:.1f} s"
    )
    if options.peer:
        theirs = time_peer(options, rows)
        print(theirs.line("transformers on PyTorch"))
        print(f"{'':<28}{theirs.median / ours.median:8.2f} times our time")


def read_bandwidth(threads: int) -> float:
    """Bytes per second that `threads` threads read, each summing its part of a large array."""
    import numpy as np

    parts = np.array_split(np.ones(READ_BYTES // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            list(pool.map(np.sum, parts))
            seconds.append(time.perf_counter() - start)
    return READ_BYTES / min(seconds)


def time_decoding(options: argparse.Namespace) -> tuple[Timing, int, int]:
    """Our decoding; also the bytes of weights and of filled cache that a step reads."""
    import numpy as np

    from emu3.mllm.generation.decoder import Decoder, StepStore, Tables
    from emu3.mllm.generation.rows import make_rows
    from emu3.mllm.generation.sampling import SamplerKind, uniforms
    from emu3.mllm.generation.step import StepKind
    from emu3.mllm.vocabulary import FREE

    model = random_model(options)
    count = options.block * (options.repeats + 1) + 1
    rng = np.random.default_rng(0)
    prompts = [
        rng.integers(3, options.vocabulary, options.prefix, np.int32)
        for _ in range(options.sequences)
    ]
    negatives = None if options.guidance == 1 else [prompts[0][::-1].copy()]
    rows = make_rows(prompts, negatives, 1)
    candidates = (options.vocabulary - (options.visual or options.vocabulary), options.vocabulary)
    kind = StepKind(len(rows.source), options.sequences, 0, candidates, SamplerKind(True, 0, False))
    tables = Tables(
        np.full((options.sequences, count), FREE, np.int32),
        np.stack([uniforms(0, i, count) for i in range(options.sequences)]),
    )
    scalars = (options.guidance, 1.0, 1.0)
    decoder = Decoder(StepStore(model), rows, kind, tables, scalars, True, known_length=True)
    decoder.choose(decoder.start())
    steps = time_blocks(lambda: decoder.advance(options.block), options)
    skipped = options.vocabulary - (candidates[1] - candidates[0])
    sizes = {name: p.size for name, p in model.parameters_and_names()}
    sizes.pop("model.embed_tokens.weight")
    width = 4 if str(model.dtype) == "Float32" else 2
    weights = (sum(sizes.values()) - skipped * options.hidden) * width
    filled = options.prefix + count // 2
    group = options.hidden // options.heads * options.kv_heads
    cache = 2 * options.layers * len(rows.source) * filled * group * width
    return Timing(steps, decoder.compile_seconds), weights, cache


def random_model(options: argparse.Namespace):
    """A model of the asked size with random weights."""
    from emu3.mllm import Emu3Config, Emu3ForCausalLM

    config = Emu3Config(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        intermediate_size=options.inner,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv_heads,
        max_position_embeddings=options.prefix + options.block * (options.repeats + 2),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation=options.attn_implementation,
    )
    return Emu3ForCausalLM(config).set_train(False)


def time_blocks(block: Callable[[], None], options: argparse.Namespace) -> list[float]:
    """Milliseconds per step of each block, after one that is not counted."""
    block()
    times = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        block()
        times.append((time.perf_counter() - start) / options.block * 1e3)
    return times


def time_peer(options: argparse.Namespace, rows: int) -> Timing:
    """transformers' Llama of the same size on PyTorch, all rows in one batch.

    Raises:
        InputError: the peer's Python lacks torch, or its run failed.
    """
    names = [*SIZES, "threads"]
    sizes = {name.replace("-", "_"): getattr(options, name.replace("-", "_")) for name in names}
    command = [options.peer_python, "-c", PEER, json.dumps(sizes | {"rows": rows})]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InputError(
            f"{options.peer_python} does not run: {error.strerror}; change --peer-python"
        ) from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(
            f"--peer torch failed in {options.peer_python}: {reason}; allowed: a Python with "
            "torch and transformers (pip install torch transformers); change --peer-python"
        )
    return Timing(json.loads(done.stdout.splitlines()[-1]), 0.0)


PEER = """
import json, sys, time
import torch
from transformers import LlamaConfig, LlamaForCausalLM

o = json.loads(sys.argv[1])
if o["threads"]:
    torch.set_num_threads(o["threads"])
config = LlamaConfig(
    vocab_size=o["vocabulary"], hidden_size=o["hidden"], intermediate_size=o["inner"],
    num_hidden_layers=o["layers"], num_attention_heads=o["heads"],
    num_key_value_heads=o["kv_heads"], max_position_embeddings=16384, tie_word_embeddings=False,
)
model = LlamaForCausalLM(config).eval()
times = []
with torch.inference_mode():
    ids = torch.randint(3, o["vocabulary"], (o["rows"], o["prefix"]))
    output = model(ids, use_cache=True)
    for _ in range(o["repeats"] + 1):
        start = time.perf_counter()
        for _ in range(o["block"]):
            token = output.logits[:, -1:].argmax(-1)
            output = model(token, past_key_values=output.past_key_values, use_cache=True)
        times.append((time.perf_counter() - start) / o["block"] * 1e3)
print(json.dumps(times[1:]))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.run_command(run, build_parser(), arguments)


if __name__ == "__main__":
    common.leave(main())
