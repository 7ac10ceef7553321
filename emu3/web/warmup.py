"""One piece of every work at start, so that the first visitor waits for no compiling."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from PIL import Image

from emu3.mllm import parts
from emu3.pipeline import AskSettings, DrawSettings, Picture, PictureSize
from emu3.web.tasks import Ask, Change, Draw, Edit, Finished, Question, Rebuild, Task
from emu3.web.worker import Failed, Full, Job, Worker

if TYPE_CHECKING:
    from emu3.loading import Emu3

LONGEST = 20.0  # seconds for one piece, after which its next event is its last


def warm_up(worker: Worker, done: Callable[[float], None]) -> None:
    """Let a worker do each kind of work once, while others may come; then `done(seconds)`.

    A piece ends early when a visitor waits or it takes long, as with large models.
    """

    def work() -> None:
        began = time.monotonic()
        for task, item in _pieces(worker.models):
            do_once(worker, task, item)
        done(time.monotonic() - began)

    threading.Thread(target=work, name="emu3-warm-up", daemon=True).start()


def do_once(worker: Worker, task: Task, item: Any) -> None:
    """One piece of work, whole or up to the event at which it is too long or somebody waits."""
    ended, until = threading.Event(), time.monotonic() + LONGEST

    def listen(event: Any) -> None:
        if time.monotonic() > until or worker.queued:
            job.cancelled.set()
        if job.cancelled.is_set() or isinstance(event, Finished | Failed):
            ended.set()

    job = Job(task, item, listen)
    try:
        worker.submit(job)
    except Full:
        return
    ended.wait()


def _pieces(models: "Emu3") -> Iterator[tuple[Task, Any]]:
    """A picture, what becomes of one, an answer and an edit, with the checkpoint's settings."""
    defaults, factor = models.defaults, models.codec.config.spatial_scale_factor
    (size,) = PictureSize().grids(1, defaults.image_area, factor)
    drawing = DrawSettings().filled(defaults)
    grey = Image.new("RGB", (size[1] * factor, size[0] * factor), "grey")
    yield Draw(drawing), Picture(defaults.example_prompt, size)
    yield Rebuild(), grey
    asked = parts.Message("user", (parts.Image(grey), parts.Text(defaults.example_prompt)))
    yield Ask(AskSettings().filled(defaults)), Question([asked])
    yield Edit(drawing), Change(defaults.example_prompt, [grey])
