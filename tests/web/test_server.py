"""The common interface, with its own client: right answers, refusals, many at once."""

import re
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from PIL import Image

from emu3.web.server import Limits, make_app
from tests.web.conftest import KEY, data_url, picture_of, served

HEADERS = {"Authorization": f"Bearer {KEY}"}


def about(image: Image.Image, text: str = "What is it?") -> list[dict]:
    """A message with a picture."""
    picture = {"type": "image_url", "image_url": {"url": data_url(image)}}
    return [{"role": "user", "content": [picture, {"type": "text", "text": text}]}]


def test_a_picture_is_that_of_its_seed(draw, models):
    assert draw("a red star", 3).tobytes() == models.draw("a red star", seed=3).tobytes()


def test_n_pictures_have_seeds_in_a_row(client, draw):
    done = client.images.generate(prompt="a red star", n=2, extra_body={"seed": 5})
    pixels = [picture_of(one.b64_json).tobytes() for one in done.data]
    assert pixels == [draw("a red star", seed).tobytes() for seed in (5, 6)]


def test_clients_at_once_get_each_their_own(draw):
    wanted = [
        (f"a {colour} {kind}", seed)
        for seed, (colour, kind) in enumerate(
            [(colour, kind) for colour in ("red", "blue") for kind in ("star", "circle", "square")]
        )
    ]
    alone = [draw(*one).tobytes() for one in wanted]
    with ThreadPoolExecutor(32) as clients:
        at_once = list(clients.map(lambda one: draw(*one).tobytes(), wanted * 5 + wanted[:2]))
    assert at_once == alone * 5 + alone[:2]


def test_a_size_is_width_by_height(draw):
    assert draw("a red star", size="128x64").size == (128, 64)


def test_an_answer_is_the_models(client, models, draw):
    picture = draw("a red star")
    done = client.chat.completions.create(model="emu3-mini", messages=about(picture))
    assert done.choices[0].message.content == models.ask("What is it?", picture)
    assert done.choices[0].finish_reason == "stop"
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens


def test_a_streamed_answer_is_the_whole_one_in_pieces(client, draw):
    asked = {"model": "emu3-mini", "messages": about(draw("a red star"), "What colour is it?")}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    chunks = list(client.chat.completions.create(**asked, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_an_answer_cut_at_its_longest_says_so(client, draw):
    done = client.chat.completions.create(
        model="emu3-mini", messages=about(draw("a red star")), max_tokens=1
    )
    assert done.choices[0].finish_reason == "length"


def test_the_model_is_listed(client):
    assert [model.id for model in client.models.list()] == ["emu3-mini"]


def test_another_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError, match="allowed: emu3-mini"):
        client.images.generate(prompt="a red star", model="dall-e-3")


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/v1/images/generations"])
def test_a_wrong_key_is_refused(url, path):
    answer = httpx.get(url + path, headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401


def test_health_needs_no_key(url):
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}


def test_metrics_count_batches_and_tokens(url, draw):
    draw("a red star")
    text = httpx.get(f"{url}/metrics", headers=HEADERS).text
    assert 'emu3_batch_size_count{task="draw"}' in text and "emu3_tokens_total" in text


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "n": 0}, "n:"),
        ({"prompt": "a", "n": 17}, "n:"),
        ({"prompt": "a", "size": "10"}, "size"),
        ({"prompt": "a", "size": "99999x99999"}, "height"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "seed": "1"}, "seed"),
        ({"prompt": "a", "decoding": "fast"}, "decoding"),
        ({"prompt": "a", "quality": "hd"}, "quality"),
        ({"prompt": "a", "response_format": "url"}, "response_format"),
        ([], "body"),
    ],
)
def test_a_field_that_cannot_be_is_named(url, body, named):
    answer = httpx.post(f"{url}/v1/images/generations", json=body, headers=HEADERS)
    assert answer.status_code == 400 and named in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1/a.png", "file:///etc/passwd", "/etc/passwd", "data:image/png;base64,***"],
)
def test_a_picture_elsewhere_is_not_fetched(client, address):
    content = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "?"}]
    with pytest.raises(openai.BadRequestError, match="base64"):
        client.chat.completions.create(
            model="emu3-mini", messages=[{"role": "user", "content": content}]
        )


def test_a_decompression_bomb_is_refused_by_its_header(client):
    content = [
        {"type": "image_url", "image_url": {"url": data_url(Image.new("1", (10000, 5000)))}},
        {"type": "text", "text": "?"},
    ]
    with pytest.raises(openai.BadRequestError, match="10000x5000 pixels"):
        client.chat.completions.create(
            model="emu3-mini", messages=[{"role": "user", "content": content}]
        )


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(url):
    def endless():
        while True:
            yield b" " * 2**20

    with pytest.raises((httpx.WriteError, httpx.ReadError, AssertionError)):
        answer = httpx.post(f"{url}/v1/chat/completions", content=endless(), headers=HEADERS)
        assert answer.status_code != 413


def test_a_stated_length_beyond_the_limit_is_refused(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as line:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {2**30}\r\n"
        line.sendall(f"{head}Authorization: Bearer {KEY}\r\n\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 413")


def test_too_many_are_told_to_come_again(models):
    app = make_app(models, "emu3-mini", Limits(waiting=1))
    with served(app) as address:
        answer = httpx.post(
            f"{address}/v1/images/generations", json={"prompt": "a red star", "n": 2}
        )
    assert answer.status_code == 429 and answer.headers["retry-after"]


def test_what_takes_too_long_is_ended(models):
    app = make_app(models, "emu3-mini", Limits(seconds=0))
    with served(app) as address:
        answer = httpx.post(
            f"{address}/v1/images/generations", json={"prompt": "a", "n": 16}, timeout=60
        )
    assert answer.status_code == 504


def test_a_client_that_leaves_ends_its_pictures(models):
    app = make_app(models, "emu3-mini", Limits(together=1))
    with served(app) as address:
        asked = {"prompt": "a red star", "n": 16}
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{address}/v1/images/generations", json=asked, timeout=0.5)
        answer = httpx.post(f"{address}/v1/images/generations", json={"prompt": "a"}, timeout=60)
        metrics = httpx.get(f"{address}/metrics").text
    assert answer.status_code == 200
    (begun,) = re.findall(r'emu3_batch_size_count\{task="draw"\} ([0-9]+)', metrics)
    assert int(begun) < 16
