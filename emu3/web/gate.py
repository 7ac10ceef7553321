"""What stands before every request: the key, the count of it, and a limit to its body.

Plain ASGI: Starlette's own middleware of functions hides it when a client leaves.
"""

import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from emu3.web.metrics import Metrics

Message = MutableMapping[str, Any]
TOO_LARGE, NO_KEY, FAILED = 413, 401, 500
GUARDED = ("/v1", "/metrics")
# Only what this server itself gives: the page's framework names a script elsewhere.
OWN_CONTENT = (
    b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'self'"
)


class Door:
    """ASGI middleware that asks for the key under `GUARDED` and counts requests."""

    def __init__(self, app: Callable, metrics: "Metrics", api_key: str | None) -> None:
        self.app, self.metrics, self.api_key = app, metrics, api_key

    async def __call__(self, scope: Message, receive: Callable, send: Callable) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), FAILED

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", OWN_CONTENT),
                ]
            await send(message)

        try:
            if self._may(scope):
                await self.app(scope, receive, watched)
            else:
                await refusal(NO_KEY, "wrong or missing API key")(scope, receive, watched)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "other")
            self.metrics.request(path, status, time.perf_counter() - began)

    def _may(self, scope: Message) -> bool:
        if self.api_key is None or not scope["path"].startswith(GUARDED):
            return True
        given = dict(scope["headers"]).get(b"authorization", b"").removeprefix(b"Bearer ")
        return hmac.compare_digest(given, self.api_key.encode())


def refusal(status: int, message: str, **headers: str) -> JSONResponse:
    """An error in the shape of the common interface."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status, headers)


class BodyLimit:
    """ASGI middleware that answers 413 once a body is longer than `most` bytes.

    What a client states as the length is believed when it is too much, and counted in any case.
    """

    def __init__(self, app: Callable, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or int(stated[:20]) > self.most:
            await self._refuse(scope, receive, send)
            return
        chunks, more, size = [], True, 0
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has left
            size += len(message.get("body", b""))
            if size > self.most:
                await self._refuse(scope, receive, send)
                return
            chunks.append(message)
            more = message.get("more_body", False)

        async def again() -> Message:
            return chunks.pop(0) if chunks else await receive()

        await self.app(scope, again, send)

    async def _refuse(self, scope: Message, receive: Callable, send: Callable) -> None:
        text = f"the request has more than {self.most} bytes; send a smaller picture"
        await refusal(TOO_LARGE, text, Connection="close")(scope, receive, send)
