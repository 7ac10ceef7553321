"""A server that ends within seconds of Ctrl-C or SIGTERM, whoever is still connected."""

import asyncio
import logging
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from emu3.web.worker import Worker

PATIENCE = 3  # seconds for answers under way, after which connections are cut


class Listener(uvicorn.Server):
    """An application on an address; a signal also ends the batch that its worker is at."""

    def __init__(self, app: Any, worker: "Worker", host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                log_level="warning",
                timeout_graceful_shutdown=PATIENCE,
            )
        )
        self.worker = worker
        logging.getLogger("uvicorn.error").addFilter(is_fault)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; further signals change nothing."""
        if not self.should_exit:
            super().handle_exit(sig, frame)
            self.worker.stop()


def is_fault(record: logging.LogRecord) -> bool:
    """Whether a record is of more than a connection that was cut at the end."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))
