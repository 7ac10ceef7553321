"""The common HTTP interface over one worker: pictures, chat, models, health, metrics.

    /v1/images/generations   prompts to pictures        /v1/models   the model
    /v1/chat/completions     questions to answers       /health      whether it answers
                                                        /metrics     for Prometheus

Pictures travel inside requests and answers; nothing is fetched, and nothing is kept.
"""

import asyncio
import base64
import io
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.exceptions import HTTPException

from emu3.errors import InputError
from emu3.images import read_image
from emu3.pipeline import Picture
from emu3.web.gate import BodyLimit, Door
from emu3.web.metrics import Metrics
from emu3.web.schemas import ChatBody, ImageBody
from emu3.web.tasks import Ask, Draw, Finished, Piece, Question
from emu3.web.worker import Failed, Full, Job, Worker

if TYPE_CHECKING:
    from PIL import Image

    from emu3.loading import Emu3

CLIENT_GONE = 499  # as nginx says of it
SECONDS_BETWEEN_LOOKS = 0.25


@dataclass(frozen=True)
class Limits:
    """What a server grants its clients; sizes in bytes and pixels, times in seconds."""

    together: int = 16
    waiting: int = 64
    seconds: float = 300.0
    body: int = 2**24
    pixels: int = 2**24


class Refused(Exception):
    """An answer that is an error: status, message, what kind, after how many seconds again."""

    def __init__(self, status: int, message: str, kind: str, again: int | None = None) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind
        self.headers = {} if again is None else {"Retry-After": str(again)}


def make_app(
    models: "Emu3", name: str, limits: Limits = Limits(), api_key: str | None = None
) -> FastAPI:
    """The application for models; `name` is what /v1/models calls them.

    With an `api_key` all under /v1 and /metrics wants it as a bearer's.
    """
    metrics = Metrics()
    worker = Worker(models, limits.together, limits.waiting, metrics.batch)
    desk = Desk(models, worker, name, limits, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()

    app = FastAPI(title="Emu3", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, most=limits.body)
    app.add_middleware(Door, metrics=metrics, api_key=api_key)
    app.state.worker, app.state.models = worker, models

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused):
        return error_answer(error)

    @app.exception_handler(InputError)
    async def bad_input(request: Request, error: InputError):
        return error_answer(Refused(400, str(error), "invalid_request_error"))

    @app.exception_handler(RequestValidationError)
    async def bad_body(request: Request, error: RequestValidationError):
        return error_answer(Refused(400, _what_is_wrong(error), "invalid_request_error"))

    @app.exception_handler(HTTPException)
    async def no_such_page(request: Request, error: HTTPException):
        return error_answer(Refused(error.status_code, str(error.detail), "invalid_request_error"))

    @app.post("/v1/images/generations")
    async def images(body: ImageBody, request: Request):
        return await desk.draw(body, request)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatBody, request: Request):
        return await desk.chat(body, request)

    @app.get("/v1/models")
    async def list_models():
        return {"object": "list", "data": [desk.about]}

    @app.get("/v1/models/{model:path}")
    async def one_model(model: str):
        desk.check_model(model)
        return desk.about

    @app.get("/health")
    async def health():
        return JSONResponse(
            {"status": "ok" if worker.alive else "down"}, 200 if worker.alive else 503
        )

    @app.get("/metrics")
    async def show_metrics():
        return PlainTextResponse(metrics.text(len(worker.waiting)), media_type=metrics.media_type)

    return app


class Desk:
    """Where requests become jobs, and their events answers."""

    def __init__(
        self, models: "Emu3", worker: Worker, name: str, limits: Limits, metrics: "Metrics"
    ) -> None:
        self.models, self.worker, self.limits, self.metrics = models, worker, limits, metrics
        self.name = name
        self.about = {
            "id": name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "emu3",
        }

    def check_model(self, model: str | None) -> None:
        """Refuse a model that is not here.

        Raises:
            Refused: 404.
        """
        if model not in (None, self.name):
            text = f"model {model[:80]!r} is not here; allowed: {self.name}"
            raise Refused(404, text, "invalid_request_error")

    async def draw(self, body: ImageBody, request: Request) -> dict[str, Any]:
        """Pictures of a prompt."""
        self.check_model(body.model)
        defaults = self.models.defaults
        factor = self.models.codec.config.spatial_scale_factor
        task = Draw(body.settings.filled(defaults))
        sizes = body.grids(defaults.image_area, factor)
        pictures = [Picture(body.prompt, size, body.seed + i) for i, size in enumerate(sizes)]
        orders = self._submit(task, pictures)
        try:
            done = [await self._finished(order, request) for order in orders]
        finally:
            for order in orders:
                order.job.cancelled.set()
        return {
            "created": int(time.time()),
            "data": [{"b64_json": as_base64(one.result)} for one in done],
            "usage": _usage(done, "input_tokens", "output_tokens"),
        }

    async def chat(self, body: ChatBody, request: Request):
        """The answer to the last message, whole or as it is made."""
        self.check_model(body.model)
        task = Ask(body.settings.filled(self.models.defaults))
        (order,) = self._submit(task, [await asyncio.to_thread(self._question, body)])
        made = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": self.name,
        }
        if body.stream:
            usage = bool((body.stream_options or {}).get("include_usage"))
            stream = self._pieces(order, request, made, usage)
            return StreamingResponse(stream, media_type="text/event-stream")
        done = await self._finished(order, request)
        message = {"role": "assistant", "content": done.result}
        choice = {"index": 0, "message": message, "finish_reason": _reason(done)}
        usage = _usage([done], "prompt_tokens", "completion_tokens")
        return made | {"object": "chat.completion", "choices": [choice], "usage": usage}

    def _question(self, body: ChatBody) -> Question:
        (message,) = body.messages
        parts = message.content if isinstance(message.content, list) else []
        texts = [part.text or "" for part in parts if part.type == "text"]
        text = " ".join(texts) if parts else message.content
        images = [part.image_url.data for part in parts if part.type == "image_url"]
        pixels = [
            self.models.codec.pixels(read_image(data, "image_url", self.limits.pixels))
            for data in images
        ]
        return Question(text, pixels[0] if pixels else None, body.seed)

    def _submit(self, task: Any, items: list) -> "list[Order]":
        loop = asyncio.get_running_loop()
        orders = [Order(task, item, loop) for item in items]
        try:
            self.worker.submit_all([order.job for order in orders])
        except Full:
            text = f"{self.limits.waiting} requests wait already; try again later"
            raise Refused(429, text, "rate_limit_error", again=5) from None
        return orders

    async def _finished(self, order: "Order", request: Request) -> Finished:
        async for event in self._events(order, request):
            last = event
        return last

    async def _events(self, order: "Order", request: Request) -> AsyncIterator[Any]:
        """The events of an order up to its last.

        Raises:
            Refused: it failed, took too long, or the client has left.
        """
        try:
            while True:
                try:
                    event = await asyncio.wait_for(order.events.get(), SECONDS_BETWEEN_LOOKS)
                except TimeoutError:
                    await self._look(order, request)
                    continue
                if isinstance(event, Failed):
                    kind = "invalid_request_error" if event.bad_input else "server_error"
                    raise Refused(400 if event.bad_input else 500, event.message, kind)
                yield event
                if isinstance(event, Finished):
                    self.metrics.tokens(order.job.task, event.tokens)
                    return
        finally:
            order.job.cancelled.set()

    async def _look(self, order: "Order", request: Request) -> None:
        if await request.is_disconnected():
            raise Refused(CLIENT_GONE, "the client has left", "server_error")
        if time.monotonic() - order.job.began > self.limits.seconds:
            text = f"not done within {self.limits.seconds:g} seconds; ask for less"
            raise Refused(504, text, "server_error")

    async def _pieces(
        self, order: "Order", request: Request, made: dict[str, Any], usage: bool
    ) -> AsyncIterator[str]:
        """An answer as server-sent events."""

        def line(delta: dict, reason: str | None = None, **more: Any) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            body = made | {"object": "chat.completion.chunk", "choices": [choice]} | more
            return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"

        yield line({"role": "assistant", "content": ""})
        try:
            async for event in self._events(order, request):
                if isinstance(event, Piece):
                    yield line({"content": event.new})
                elif isinstance(event, Finished):
                    yield line({}, _reason(event))
                    if usage:
                        counts = _usage([event], "prompt_tokens", "completion_tokens")
                        yield line({}, choices=[], usage=counts)
            yield "data: [DONE]\n\n"
        except Refused as error:
            yield f"data: {json.dumps(error_body(error), ensure_ascii=False)}\n\n"


class Order:
    """A job and the queue in which its events reach the loop of the server."""

    def __init__(self, task: Any, item: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.events: asyncio.Queue = asyncio.Queue()
        self.loop = loop
        self.job = Job(task, item, self._tell)

    def _tell(self, event: Any) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


def as_base64(image: "Image.Image") -> str:
    """A picture as the base64 of a PNG file."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def error_body(error: Refused) -> dict[str, Any]:
    """An error in the shape of the common interface."""
    return {"error": {"message": str(error), "type": error.kind, "param": None, "code": None}}


def error_answer(error: Refused) -> JSONResponse:
    """The HTTP answer that an error is."""
    return JSONResponse(error_body(error), error.status, error.headers)


def _what_is_wrong(error: RequestValidationError) -> str:
    """The first fault of a body, with the field it is in."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return f"{where or 'body'}: {first['msg']}"[:400]


def _reason(done: Finished) -> str:
    return "stop" if done.ended else "length"


def _usage(done: list[Finished], prompt: str, answer: str) -> dict[str, int]:
    given, made = sum(one.prompt_tokens for one in done), sum(one.tokens for one in done)
    return {prompt: given, answer: made, "total_tokens": given + made}
