"""How fast prompts enter the cache, a peer in turns with us if wanted."""

from contextlib import ExitStack
from dataclasses import dataclass

from emu3.benchmarks import measure, nets
from emu3.benchmarks.peer import NetPeerOptions, Peer, shared_settings
from emu3.benchmarks.table import Row, show
from emu3.cli.options import Device
from emu3.options import group, option, whole


@dataclass(frozen=True)
class PrefillOptions:
    """Of `prefill`."""

    net: nets.NetOptions = group()
    prefix: int = option("tokens of each prompt", 512, whole(1, measure.MOST_TOKENS))
    sequences: int = option("prompts together", 1, whole(1, measure.MOST_TOGETHER))
    repeats: int = option(
        "times measured, after one that is not", 5, whole(1, measure.MOST_REPEATS)
    )
    against: NetPeerOptions = group()
    device: Device = group()


def run_prefill(options: PrefillOptions) -> None:
    """Measure and print how fast prompts enter the cache."""
    from emu3.mllm.generation import PrefillDone

    options.device.start()
    net, against = options.net.sizes, options.against
    model = nets.random_model(net, options.prefix + 8, options.device)
    prompts = nets.random_prompts(net, options.sequences, options.prefix)

    def ours() -> float:
        events = model.stream(prompts, max_new_tokens=1, jit=options.device.jit)
        return next(event.seconds for event in events if isinstance(event, PrefillDone))

    print(measure.machine())
    with ExitStack() as stack:
        runs = {"emu3": ours}
        if against.peer:
            settings = shared_settings(net, options.sequences, options.prefix, options.device)
            peer = Peer(against.peer_python, "prefill", settings, model, kind=against.peer)
            runs["peer"] = stack.enter_context(peer).seconds
        timings = measure.take_turns(runs, options.repeats)
    mode = "graph" if options.device.mode == "graph" else "pynative"
    cells = {
        "batch": options.sequences,
        "resolution": f"{options.prefix} tokens",
        "rate": prompts.size,
    }
    rows = [Row("emu3 prefill", timings["emu3"], mode, str(model.dtype).lower(), **cells)]
    if against.peer:
        name = f"{against.peer} prefill"
        rows.append(Row(name, timings["peer"], against=timings["emu3"], **cells))
    show(rows)
