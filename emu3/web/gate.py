"""What stands before every request: no body beyond a limit is read."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

Message = MutableMapping[str, Any]
TOO_LARGE = 413


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
        error = {"message": text, "type": "invalid_request_error", "param": None, "code": None}
        answer = JSONResponse({"error": error}, TOO_LARGE, {"Connection": "close"})
        await answer(scope, receive, send)
