"""The common interface, with its own client: right answers, refusals, many at once."""

import io
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from PIL import Image

from emu3.web.server import Limits, make_app
from tests.web.conftest import KEY, data_url, picture_of, served
from tests.web.test_worker import heard, held

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


def turn(role: str, *parts: str | Image.Image) -> dict:
    """A message of texts and pictures."""
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": data_url(part)}}
        for part in parts
    ]
    return {"role": role, "content": content}


def test_a_conversation_of_several_turns_and_pictures_goes_on_as_chat_does(client, models, draw):
    pictures = [draw("a red star"), draw("a blue circle")]
    talk, asked = models.chat(max_new_tokens=20), []
    for picture in pictures:
        asked.append(turn("user", picture, "What colour is it?"))
        done = client.chat.completions.create(
            model="emu3-mini", messages=asked, max_tokens=20, temperature=0
        )
        asked.append(done.choices[0].message)
        assert done.choices[0].message.content == talk.say(picture, "What colour is it?").text


def test_a_picture_behind_its_question_is_shown_before_it(client, draw):
    picture = draw("a red star")
    answers = [
        client.chat.completions.create(model="emu3-mini", messages=[turn("user", *parts)])
        for parts in ((picture, "What is it?"), ("What is it?", picture))
    ]
    assert answers[0].choices == answers[1].choices


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_system_speaks_in_place_of_the_templates_opening(client, draw, role):
    picture = draw("a red star")
    used = [
        client.chat.completions.create(
            model="emu3-mini", messages=[*said, turn("user", picture, "What is it?")]
        ).usage.prompt_tokens
        for said in (
            [],
            [{"role": role, "content": "You are a helpful assistant."}],
            [turn(role, "You are a helpful assistant.", "Be brief.")],
        )
    ]
    assert used[0] == used[1] < used[2]


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ([turn("user", "a"), turn("user", "b")], "user, user; allowed: user and assistant in turn"),
        ([turn("user", "a"), turn("assistant", "b")], "allowed: user and assistant in turn"),
        ([turn("user", "a"), turn("system", "b")], "system message in the middle"),
        ([turn("system", Image.new("RGB", (64, 64))), turn("user", "b")], "a picture in a system"),
        ([turn("system", "b")], "nobody"),
        ([turn("user", "a red star " * 1000)], "tokens; allowed: up to"),
        ([turn("user", *[Image.new("RGB", (64, 64))] * 17)], "allowed: up to 16 in one request"),
        (
            [turn("user", *[Image.new("1", (4096, 2048))] * 3)],
            "allowed: 16777216 in one request",
        ),
    ],
)
def test_a_conversation_that_cannot_be_is_refused(client, messages, named):
    with pytest.raises(openai.BadRequestError, match=named):
        client.chat.completions.create(model="emu3-mini", messages=messages)


def test_what_is_wrong_from_the_start_is_no_stream(client):
    with pytest.raises(openai.BadRequestError, match="tokens; allowed: up to"):
        client.chat.completions.create(
            model="emu3-mini", messages=[turn("user", "a red star " * 1000)], stream=True
        )


def as_file(image: Image.Image, name: str = "picture.png") -> tuple[str, io.BytesIO]:
    """A picture as a file to send."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return name, io.BytesIO(file.getvalue())


def test_an_edit_is_that_of_its_seed(client, models, draw):
    picture = draw("a red star")
    done = client.images.edit(
        image=as_file(picture), prompt="make it blue", n=2, extra_body={"seed": 3}
    )
    assert [picture_of(one.b64_json).tobytes() for one in done.data] == [
        models.edit("make it blue", picture, seed=seed).tobytes() for seed in (3, 4)
    ]


def test_an_edit_of_two_pictures_is_as_large_as_asked_for(client, models, draw):
    pictures = [draw("a red star"), draw("a blue circle", size="176x96")]
    files = [as_file(picture) for picture in pictures]
    for size, wanted in (("auto", (176, 96)), ("64x64", (64, 64))):
        done = client.images.edit(image=files, prompt="both", size=size, response_format="b64_json")
        assert picture_of(done.data[0].b64_json).size == wanted


@pytest.mark.parametrize(
    ("fields", "files", "named"),
    [
        ({"prompt": "a"}, [], "no picture"),
        ({}, ["image"], "prompt"),
        ({"prompt": "a", "n": "two"}, ["image"], "n:"),
        ({"prompt": "a", "quality": "hd"}, ["image"], "quality"),
        ({"prompt": "a", "guidance": "-1"}, ["image"], "guidance"),
        ({"prompt": "a"}, ["image", "mask"], "mask"),
        ({"prompt": "a"}, ["image[]"] * 17, "files"),
        ({"prompt": ["a", "b"]}, ["image"], "twice"),
    ],
)
def test_a_form_that_cannot_be_is_refused_by_name(url, fields, files, named):
    sent = [(name, ("a.png", as_file(Image.new("RGB", (64, 64)))[1])) for name in files]
    answer = httpx.post(f"{url}/v1/images/edits", data=fields, files=sent, headers=HEADERS)
    assert answer.status_code == 400 and named in answer.json()["error"]["message"]


def test_an_edit_of_what_is_no_picture_is_refused(client):
    with pytest.raises(openai.BadRequestError, match=r"a\.png cannot be read"):
        client.images.edit(image=("a.png", b"no picture"), prompt="a")
    with pytest.raises(openai.BadRequestError, match="10000x5000 pixels"):
        client.images.edit(image=as_file(Image.new("1", (10000, 5000))), prompt="a")


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
        ({"prompt": "a", "size": "9999x9999"}, "is 390625 codes; allowed: up to 2048"),
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
    task = held(app.state.worker)
    heard(app.state.worker, task, "second")
    with served(app) as address:
        answer = httpx.post(f"{address}/v1/images/generations", json={"prompt": "a red star"})
        task.gate.set()
    assert answer.status_code == 429 and answer.headers["retry-after"]


def test_more_pictures_than_may_ever_wait_are_refused_for_good(models):
    with served(make_app(models, "emu3-mini", Limits(waiting=1))) as address:
        answer = httpx.post(f"{address}/v1/images/generations", json={"prompt": "a", "n": 2})
    assert answer.status_code == 400 and "up to 1" in answer.json()["error"]["message"]


def test_what_takes_too_long_is_ended(models):
    app = make_app(models, "emu3-mini", Limits(seconds=0))
    task = held(app.state.worker)
    asked = {"messages": [turn("user", "a")], "stream": True}
    with served(app) as address:
        answers = [
            httpx.post(f"{address}/v1/{path}", json=body, timeout=60)
            for path, body in (("images/generations", {"prompt": "a"}), ("chat/completions", asked))
        ]
        task.gate.set()
    assert [answer.status_code for answer in answers] == [504, 504]


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
