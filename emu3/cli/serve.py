"""The HTTP server: `emu3 serve --port 8000`, then any client of the common interface.

It listens on this machine alone unless --host says otherwise.
"""

import importlib.util
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass

from emu3.cli import options as shared
from emu3.cli import shell
from emu3.errors import InputError
from emu3.options import group, option, plain_text, positive_float, whole

NEEDED = ("fastapi", "uvicorn", "prometheus_client")
KEY_VARIABLE = "EMU3_API_KEY"
MEGABYTE = 2**20


@dataclass(frozen=True)
class Serving:
    """Where a server listens, and what it grants."""

    host: str = option(
        "address to listen on; 0.0.0.0 opens it to the network", "127.0.0.1", plain_text
    )
    port: int = option("port to listen on", 8000, whole(1, 65535))
    api_key: str | None = option(
        f"what clients must send as their key (default: {KEY_VARIABLE}, else none)",
        None,
        plain_text,
    )
    batch_size: int = option("requests answered together", 16, whole(1, 64))
    queue: int = option(
        "requests that may wait; further ones are answered 429", 64, whole(1, 100_000)
    )
    time_limit: float = option("seconds a request may take", 300.0, positive_float)
    upload_mb: int = option("largest request in megabytes", 16, whole(1, 1024))
    image_pixels: int = option("pixels of all pictures of a request", 2**24, whole(1, 2**27))

    @property
    def key(self) -> str | None:
        """The key clients must send."""
        return self.api_key or os.environ.get(KEY_VARIABLE)


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    serving: Serving = group()
    weights: str | None = shared.weights()
    device: shared.Device = group()


def run(options: Options) -> None:
    """Load the models, then answer until Ctrl-C."""
    require_installed(NEEDED)
    models = load(options)
    app = application(options, models)
    listen(app, options, f"{shared.model_name(options.model)} on {address(options.serving)}/v1")


def require_installed(needed: Sequence[str]) -> None:
    """Refuse to begin without the packages of the extra.

    Raises:
        InputError: says what to install.
    """
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{', '.join(missing)} not installed; pip install 'emu3-mindspore[web]'")


def load(options: Options):
    """The models, on the device asked for."""
    device = options.device
    device.start()
    from emu3.loading import load_models

    return load_models(
        options.model,
        options.vq_model,
        device.dtype,
        device.attn_implementation,
        options.weights,
    )


def application(options: Options, models):
    """The HTTP interface over models."""
    from emu3.web.server import make_app

    return make_app(
        models, shared.model_name(options.model), limits_of(options.serving), options.serving.key
    )


def limits_of(serving: Serving):
    """What clients are granted."""
    from emu3.web.server import Limits

    return Limits(
        together=serving.batch_size,
        waiting=serving.queue,
        seconds=serving.time_limit,
        body=serving.upload_mb * MEGABYTE,
        pixels=serving.image_pixels,
    )


def listen(app, options: Options, what: str) -> None:
    """Answer until Ctrl-C."""
    from emu3 import runtime
    from emu3.web.listener import Listener
    from emu3.web.warmup import warm_up

    serving = options.serving
    if not is_loopback(serving.host):
        who = "whoever has the key" if serving.key else "everybody who reaches it: there is no key"
        runtime.notice(f"--host {serving.host} opens this machine to {who}")
    print(f"emu3: {what}; compiling for the first request ...", flush=True)
    warm_up(
        app.state.worker,
        lambda seconds: print(f"emu3: compiled within {seconds:.1f} s", flush=True),
    )
    Listener(app, app.state.worker, serving.host, serving.port).run()


def address(serving: Serving) -> str:
    """The URL of a server."""
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    return f"http://{host}:{serving.port}"


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


build_parser, main = shell.command(
    "emu3.cli.serve", "Serve the common HTTP interface.", Options, run
)

if __name__ == "__main__":
    shell.leave(main())
