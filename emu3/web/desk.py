"""Where requests become jobs of the worker, and their events answers of the common interface."""

import asyncio
import base64
import io
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from emu3.pipeline import Picture
from emu3.web.allowance import MOST_PICTURES, Allowance
from emu3.web.schemas import MOST_FIELDS, ChatBody, ImageBody, read_form
from emu3.web.tasks import Ask, Change, Draw, Edit, Finished, Piece, Question, Task
from emu3.web.worker import Failed, Full, Job, Worker

if TYPE_CHECKING:
    from PIL import Image

    from emu3.loading import Emu3
    from emu3.web.metrics import Metrics

CLIENT_GONE = 499  # as nginx says of it
SECONDS_BETWEEN_LOOKS = 0.25


@dataclass(frozen=True)
class Limits:
    """What a server grants its clients; sizes in bytes and pixels, of a request, and seconds."""

    together: int = 16
    waiting: int = 64
    seconds: float = 300.0
    body: int = 2**24
    pixels: int = 2**24


LIMITS = Limits()


class Refused(Exception):
    """An answer that is an error: status, message, what kind, after how many seconds again."""

    def __init__(self, status: int, message: str, kind: str, again: int | None = None) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind
        self.headers = {} if again is None else {"Retry-After": str(again)}


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
        sizes = self._grids(body)
        pictures = [Picture(body.prompt, size, body.seed + i) for i, size in enumerate(sizes)]
        return await self._pictures(
            Draw(body.settings.filled(self.models.defaults)), pictures, request
        )

    async def edit(self, request: Request) -> dict[str, Any]:
        """The pictures of a form, changed as it says."""
        async with request.form(max_files=MOST_PICTURES, max_fields=MOST_FIELDS) as form:
            body, files = read_form(form.multi_items())
            sent = [(file.filename or "image", await file.read()) for file in files]
        self.check_model(body.model)
        defaults = self.models.defaults
        given = [None] * body.n if body.size == "auto" else self._grids(body)
        read = Allowance(self.limits.pixels).read
        images = await asyncio.to_thread(lambda: [read(data, name) for name, data in sent])
        changes = [Change(body.prompt, images, size, body.seed + i) for i, size in enumerate(given)]
        return await self._pictures(Edit(body.settings.filled(defaults)), changes, request)

    async def _pictures(
        self, task: Draw | Edit, items: list[Picture | Change], request: Request
    ) -> dict[str, Any]:
        orders = self._submit(task, items)
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
            stream = self._pieces(await begun(self._events(order, request)), made, usage)
            return StreamingResponse(stream, media_type="text/event-stream")
        done = await self._finished(order, request)
        message = {"role": "assistant", "content": done.result}
        choice = {"index": 0, "message": message, "finish_reason": _reason(done)}
        usage = _usage([done], "prompt_tokens", "completion_tokens")
        return made | {"object": "chat.completion", "choices": [choice], "usage": usage}

    def _grids(self, body: ImageBody) -> list[tuple[int, int]]:
        return body.grids(
            self.models.defaults.image_area,
            self.models.codec.config.spatial_scale_factor,
            self.models.model.config.most_positions,
        )

    def _question(self, body: ChatBody) -> Question:
        system, messages = body.conversation(Allowance(self.limits.pixels).read)
        return Question(messages, body.seed, system)

    def _submit(self, task: Task, items: Sequence[Any]) -> "list[Order]":
        loop = asyncio.get_running_loop()
        orders = [Order(task, item, loop) for item in items]
        try:
            self.worker.submit_all([order.job for order in orders])
        except Full:
            if not self.worker.open:
                raise Refused(503, "the server is stopping", "server_error") from None
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
        looked = time.monotonic()
        try:
            while True:
                # However fast events follow each other.
                if time.monotonic() - looked >= SECONDS_BETWEEN_LOOKS:
                    await self._look(order, request)
                    looked = time.monotonic()
                try:
                    event = await asyncio.wait_for(order.events.get(), SECONDS_BETWEEN_LOOKS)
                except asyncio.TimeoutError:
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
        self, events: AsyncIterator[Any], made: dict[str, Any], usage: bool
    ) -> AsyncIterator[str]:
        """An answer as server-sent events."""

        def line(delta: dict, reason: str | None = None, **more: Any) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            body = made | {"object": "chat.completion.chunk", "choices": [choice]} | more
            return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"

        yield line({"role": "assistant", "content": ""})
        try:
            async for event in events:
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


async def begun(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The events, once the first has come: what is wrong from the start is raised here."""
    first = await anext(events)

    async def all_of_them() -> AsyncIterator[Any]:
        yield first
        async for event in events:
            yield event

    return all_of_them()


def as_base64(image: "Image.Image") -> str:
    """A picture as the base64 of a PNG file."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def error_body(error: Refused) -> dict[str, Any]:
    """An error in the shape of the common interface."""
    return {"error": {"message": str(error), "type": error.kind, "param": None, "code": None}}


def _reason(done: Finished) -> str:
    return "stop" if done.ended else "length"


def _usage(done: list[Finished], prompt: str, answer: str) -> dict[str, int]:
    given, made = sum(one.prompt_tokens for one in done), sum(one.tokens for one in done)
    return {prompt: given, answer: made, "total_tokens": given + made}
