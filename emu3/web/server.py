"""The common HTTP interface over one worker: pictures, edits, chat, models, health, metrics.

    /v1/images/generations   prompts to pictures        /v1/models   the model
    /v1/images/edits         pictures and what to do    /health      whether it answers
    /v1/chat/completions     conversations to answers   /metrics     for Prometheus

Pictures travel inside requests and answers; nothing is fetched, and nothing is kept.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from emu3.errors import InputError
from emu3.web.desk import LIMITS, Desk, Limits, Refused, error_body
from emu3.web.gate import BodyLimit, Door
from emu3.web.metrics import Metrics
from emu3.web.schemas import ChatBody, ImageBody
from emu3.web.worker import Worker

if TYPE_CHECKING:
    from emu3.loading import Emu3


def make_app(
    models: "Emu3", name: str, limits: Limits = LIMITS, api_key: str | None = None
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
    @app.exception_handler(ValidationError)
    async def bad_body(request: Request, error: RequestValidationError | ValidationError):
        return error_answer(Refused(400, _what_is_wrong(error), "invalid_request_error"))

    @app.exception_handler(HTTPException)
    async def no_such_page(request: Request, error: HTTPException):
        return error_answer(Refused(error.status_code, str(error.detail), "invalid_request_error"))

    @app.post("/v1/images/generations")
    async def images(body: ImageBody, request: Request):
        return await desk.draw(body, request)

    @app.post("/v1/images/edits")
    async def edits(request: Request):
        return await desk.edit(request)

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
        return PlainTextResponse(metrics.text(worker.queued), media_type=metrics.media_type)

    return app


def error_answer(error: Refused) -> JSONResponse:
    """The HTTP answer that an error is."""
    return JSONResponse(error_body(error), error.status, error.headers)


def _what_is_wrong(error: RequestValidationError | ValidationError) -> str:
    """The first fault of a body, with the field it is in."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return f"{where or 'body'}: {first['msg']}"[:400]
