"""The HTTP server under many clients against one at a time: pictures by way of loopback."""

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from emu3.benchmarks import measure
from emu3.benchmarks.pictures import loaded, repeats
from emu3.benchmarks.table import Row, show
from emu3.cli import options as shared
from emu3.errors import InputError
from emu3.options import group, option, whole

LOOPBACK = "127.0.0.1"
SECONDS = 600  # that a client waits
ALONE = 4  # pictures of a client that is alone


@dataclass(frozen=True)
class Options:
    """Of `serve`."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    prompt: str | None = option("what to draw (default: the checkpoint's example)")
    clients: int = option("clients at once, a picture each", 32, whole(1, 1024))
    batch_size: int = option("requests made together", 16, whole(1, 64))
    repeats: int = repeats("rounds")
    weights: str | None = shared.weights()
    device: shared.Device = group()


def run_serving(options: Options) -> None:
    """Measure pictures a second of clients at once and of one that asks again and again.

    Raises:
        InputError: a client at once got another picture than alone.
    """
    from emu3.cli.serve import NEEDED, require_installed

    require_installed(NEEDED)
    models = loaded(options)
    prompt = options.prompt or models.defaults.example_prompt
    print(measure.machine())
    with served(models, options) as address, ThreadPoolExecutor(options.clients) as threads:
        found: dict[int, set[str]] = {}

        def ask(seed: int) -> None:
            found.setdefault(seed, set()).add(picture(address, prompt, seed))

        rounds = {
            "one at a time": lambda: measure.timed(lambda: list(map(ask, range(ALONE)))) / ALONE,
            "at once": lambda: (
                measure.timed(lambda: list(threads.map(ask, range(options.clients))))
                / options.clients
            ),
        }
        alone, at_once = measure.take_turns(rounds, options.repeats).values()
    wrong = [seed for seed, pictures in found.items() if len(pictures) > 1]
    if wrong:
        raise InputError(f"seed {wrong[0]} gave several pictures; tell us with `emu3 doctor`")
    many = f"{options.clients} clients at once, up to {options.batch_size} together"
    times = {"times as many": f"{at_once.ratio(alone):.2f}"}
    show(
        [
            Row("one client, one picture after the other", alone, rate=1, unit="pictures/s"),
            Row(many, at_once, rate=1, unit="pictures/s", extra=times),
        ]
    )


@contextmanager
def served(models, options: Options) -> Iterator[str]:
    """The address of a server for the block."""
    import uvicorn

    from emu3.web.server import Limits, make_app

    limits = Limits(together=options.batch_size, waiting=options.clients, seconds=SECONDS)
    app = make_app(models, shared.model_name(options.model), limits)
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
        if not thread.is_alive():
            raise InputError("the server does not start; its message stands above")
    try:
        yield f"http://{LOOPBACK}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def picture(address: str, prompt: str, seed: int) -> str:
    """A picture of the server as base64."""
    body = json.dumps({"prompt": prompt, "seed": seed}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/images/generations", body, headers)
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return json.load(answer)["data"][0]["b64_json"]
