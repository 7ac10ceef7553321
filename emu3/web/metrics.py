"""What a server counts, in Prometheus' words."""

from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from emu3.web.tasks import SIZES

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """Requests, their seconds, batches and tokens; one set a server."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        named = {"registry": own, "namespace": "emu3"}
        self.requests = Counter("requests", "Requests answered", ["path", "status"], **named)
        self.seconds = Histogram("seconds", "To an answer", ["path"], buckets=SECONDS, **named)
        self.batches = Histogram("batch_size", "Jobs together", ["task"], buckets=SIZES, **named)
        self.made = Counter("tokens", "Tokens made", ["task"], **named)
        self.waiting = Gauge("waiting", "Jobs that wait", **named)

    def request(self, path: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self.requests.labels(path, status).inc()
        self.seconds.labels(path).observe(seconds)

    def batch(self, task: Any, size: int) -> None:
        """A batch begins."""
        self.batches.labels(task.name).observe(size)

    def tokens(self, task: Any, count: int) -> None:
        """An item was finished."""
        self.made.labels(task.name).inc(count)

    def text(self, waiting: int) -> str:
        """All of it as a page."""
        self.waiting.set(waiting)
        return generate_latest(self.registry).decode()
