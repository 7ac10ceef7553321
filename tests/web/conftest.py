"""emu3-mini behind a real server on a free port of this machine."""

import base64
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from openai import OpenAI
from PIL import Image

import emu3
from emu3.web.server import Limits, make_app

KEY = "a secret"


@pytest.fixture(scope="session")
def models():
    """emu3-mini."""
    return emu3.load(device="CPU")


@pytest.fixture(scope="session")
def url(models) -> Iterator[str]:
    """The address of a server with a key."""
    with served(make_app(models, "emu3-mini", Limits(), KEY)) as address:
        yield address


@pytest.fixture(scope="session")
def client(url) -> OpenAI:
    """A client that has the key and never tries again."""
    return OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)


@pytest.fixture
def draw(client) -> Callable[..., Image.Image]:
    """Draw by way of the server."""

    def one(prompt: str, seed: int = 0, **more) -> Image.Image:
        done = client.images.generate(prompt=prompt, extra_body={"seed": seed} | more)
        return picture_of(done.data[0].b64_json)

    return one


def picture_of(text: str) -> Image.Image:
    """The picture that base64 holds."""
    return Image.open(io.BytesIO(base64.b64decode(text)))


def data_url(image: Image.Image) -> str:
    """A picture as an address that holds it."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


class served:
    """An application answering on a free port while the block runs."""

    def __init__(self, app) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = uvicorn.Config(app, port=self.port, log_level="warning")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *error) -> None:
        self.server.should_exit = True
        self.thread.join()
