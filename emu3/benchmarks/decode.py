"""Decoding steps of nets with random weights, a peer in turns with them if wanted.

A block is one row of a picture, which is what the command reads back at a time: `row` sampled
tokens and the end of the line. Prompt and blocks go through the public `stream`.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from emu3.benchmarks import measure, nets, passes
from emu3.benchmarks.peer import NetPeerOptions, Peer, shared_settings
from emu3.benchmarks.table import Row, show
from emu3.cli.options import Device
from emu3.errors import InputError
from emu3.names import WEIGHTS
from emu3.options import group, guidance_number, option, whole

if TYPE_CHECKING:
    from emu3.mllm import Emu3ForCausalLM

WAYS = {
    "torch": {
        "reference": "torch, reference's way: two passes, growing cache, allowed-token callback",
        "batched": "torch, rows in one batch, growing cache, sliced head",
        "static": "torch, rows in one batch, static cache, sliced head",
    },
    "llama-cpp": {"batched": "llama.cpp, rows in one batch, whole head"},
}
NARROW = "-bfloat16"  # behind a way: weights, cache and arithmetic in bfloat16


@dataclass(frozen=True)
class DecodeOptions:
    """Of `decode`."""

    net: nets.NetOptions = group()
    prefix: list[int] | None = option(
        "tokens in the cache at the start; may be given several times, and is then compared "
        "(default: 512)",
        None,
        whole(1, measure.MOST_TOKENS),
    )
    sequences: int = option("pictures together", 1, whole(1, measure.MOST_TOGETHER))
    row: int = option(
        "codes in a row of the picture; a block is a row and its end", 16, whole(1, 4096)
    )
    repeats: int = option("rows timed, after one that is not", 9, whole(1, measure.MOST_REPEATS))
    top_k: int = option("sample among so many", 2048, whole(1))
    guidance: float = option("1 runs one row per picture, anything else two", 3.0, guidance_number)
    weights: list[str] | None = option(
        "what matrices are stored as on CPU; may be given several times, and they take turns then "
        "(default: float32)",
        None,
        choices=WEIGHTS,
    )
    window: list[int] | None = option(
        "measure runs of the network that try so many places of each picture, beside one; may be "
        "given several times",
        None,
        whole(2, 1024),
    )
    against: NetPeerOptions = group()
    peer_ways: str | None = option(
        f"how the peer decodes, of {', '.join(WAYS['torch'])} (llama-cpp: batched), each also with "
        f"{NARROW} behind it (default: all without it)",
    )
    device: Device = group()

    def __post_init__(self) -> None:
        self.ways  # noqa: B018 - a name that nobody knows is refused at once
        if self.window and self.against.peer:
            raise InputError(
                f"--window {self.window[0]} with --peer {self.against.peer}; allowed: one of them, "
                "as peers run one place; leave --peer out"
            )

    @cached_property
    def ways(self) -> list[str]:
        """The peer's ways; none without a peer.

        Raises:
            InputError: an unknown name.
        """
        known = WAYS[self.against.peer or "torch"]
        ways = list(known) if self.peer_ways is None else self.peer_ways.split(",")
        for way in ways:
            if way.removesuffix(NARROW) not in known:
                raise InputError(
                    f"way {way!r}; allowed: {', '.join(known)}, with {NARROW} behind them or not; "
                    "change --peer-ways"
                )
        return ways if self.against.peer else []

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the picture under way: rows timed, one that is not, one to spare."""
        return self.repeats + 2, self.row


class OurRows:
    """A picture under way; `block` makes one more row of every sequence."""

    def __init__(self, model: "Emu3ForCausalLM", options: DecodeOptions, prefix: int) -> None:
        self.sequences, self.steps = options.sequences, options.row + 1
        prompts = nets.random_prompts(options.net.sizes, options.sequences, prefix)
        guided = {}
        if options.guidance != 1:
            guided = {"negative_prompt_ids": prompts[:1]}  # equal prompts enter the cache once
        self.events = model.stream(
            prompts,
            image_size=options.grid,
            guidance_scale=options.guidance,
            do_sample=True,
            top_k=options.top_k,
            seed=0,
            jit=options.device.jit,
            **guided,
        )

    def block(self) -> float:
        """Seconds per step of the next row."""
        return measure.timed(self._row) / self.steps

    def _row(self) -> None:
        from emu3.mllm.generation import RowDone

        rows: Iterator = (event for event in self.events if isinstance(event, RowDone))
        for _ in range(self.sequences):
            next(rows)


def run_decode(options: DecodeOptions) -> None:
    """Measure and print decoding."""
    options.device.start()
    prefixes = options.prefix or [512]
    if options.window:
        run_windows(options, prefixes)
        return
    threads = options.device.threads or os.cpu_count()
    reads = [measure.read_bandwidth(threads)]
    rows, columns = options.grid
    positions = max(prefixes) + rows * (columns + 1)
    models = {
        form: nets.random_model(options.net.sizes, positions, options.device, form)
        for form in options.weights or ["float32"]
    }
    measured = {}
    for prefix in prefixes:
        with ExitStack() as stack:
            ours = {form: OurRows(model, options, prefix) for form, model in models.items()}
            runs = {form: row.block for form, row in ours.items()}
            for way in options.ways:
                peer = stack.enter_context(
                    Peer(
                        options.against.peer_python,
                        f"decode_{way.removesuffix(NARROW)}",
                        peer_settings(options, prefix) | {"dtype": precision_of(way)},
                        next(iter(models.values())),
                        kind=options.against.peer,
                    )
                )
                runs[way] = lambda peer=peer, steps=columns + 1: peer.seconds() / steps
            measured[prefix] = measure.take_turns(runs, options.repeats)
        reads.append(measure.read_bandwidth(threads))  # one may be disturbed
    bandwidth = max(reads)
    rows = []
    for prefix, timings in measured.items():
        rows += decode_rows(timings, models, options, prefix, bandwidth)
    print(f"{measure.machine()}; reads {bandwidth / 1e9:.1f} GB/s")
    show(rows)
    first = next(iter(models))
    own = [row for row in rows if row.moved is not None and row.precision == first]
    for line in growth(own, prefixes):
        print(line)


def run_windows(options: DecodeOptions, prefixes: list[int]) -> None:
    """Measure and print what runs of several places cost."""
    rows, columns = passes.grid(options)
    positions = max(prefixes) + rows * (columns + 1) + max(options.window)
    sizes, device = options.net.sizes, options.device
    models = {
        form: nets.random_model(sizes, positions, device, form)
        for form in options.weights or ["float32"]
    }
    print(measure.machine())
    show([row for prefix in prefixes for row in passes.measured(models, options, prefix)])


def decode_rows(
    timings: dict[str, measure.Timing],
    models: dict[str, "Emu3ForCausalLM"],
    options: DecodeOptions,
    prefix: int,
    bandwidth: float,
) -> list[Row]:
    """The table's lines: ours with bytes and bandwidth by stored form, then the peer's against ours
    of the same precision, or our first."""
    common_cells = {"batch": options.sequences, "resolution": f"{prefix} tokens before"}
    first = timings[next(iter(models))]
    ours = []
    for form, model in models.items():
        needed, rows = needs(model, options, prefix, form)
        ours.append(
            Row(
                f"emu3, {needed.language_parameters / 1e6:.0f} M, {rows} row(s)",
                timings[form],
                mode="pynative" if options.device.mode == "pynative" else "graph step",
                precision=str(model.dtype).lower() if form == "float32" else form,
                attention=model.model.layers[0].self_attn.attention,
                rate=options.sequences,
                moved=needed.step,
                bandwidth=bandwidth,
                extra={"speed-up": f"{timings[form].ratio(first):.2f}x"} if len(models) > 1 else {},
                **common_cells,
            )
        )
    peers = [
        Row(
            WAYS[options.against.peer][way.removesuffix(NARROW)],
            timing,
            precision=precision_of(way),
            rate=options.sequences,
            against=timings.get(precision_of(way), first),
            **common_cells,
        )
        for way, timing in timings.items()
        if way not in models
    ]
    return [*ours, *peers]


def precision_of(way: str) -> str:
    """What a peer's way computes in."""
    return "bfloat16" if way.endswith(NARROW) else "float32"


def needs(model: "Emu3ForCausalLM", options: DecodeOptions, prefix: int, form: str):
    """The estimate of what is measured, and its rows in the network."""
    from emu3.estimate import WIDTHS, Work, estimate
    from emu3.tokenizer import Emu3VisionVQConfig

    work = Work(
        sequences=options.sequences,
        guided=options.guidance != 1,
        prompt=prefix,
        grid=options.grid,
        width=WIDTHS[str(model.dtype).lower()],
        weights=None if form == "float32" else form,
    )
    return estimate(model.config, Emu3VisionVQConfig(), work), work.rows


def growth(rows: list[Row], prefixes: list[int]) -> Iterator[str]:
    """How time grows with the filled cache, against how the bytes do."""
    for row, prefix in zip(rows[1:], prefixes[1:]):
        time = row.timing.median / rows[0].timing.median
        moved = row.moved / rows[0].moved
        yield (
            f"{prefix} against {prefixes[0]} filled slots: {time:.2f} times the time for "
            f"{moved:.2f} times the bytes: {time / moved - 1:+.0%} beyond them"
        )


def peer_settings(options: DecodeOptions, prefix: int) -> dict:
    """What the peer has to know for the same rows."""
    settings = shared_settings(options.net.sizes, options.sequences, prefix, options.device)
    rows, columns = options.grid
    return settings | {
        "negative": settings["prompts"][:1],
        "row": columns,
        "rows": rows,
        "top_k": options.top_k,
        "guidance": options.guidance,
        "eol": nets.EOL,
    }
