"""One thread that owns the models: jobs that wait for the same kind of work become one batch.

    clients --submit--> waiting --take equal tasks--> a batch --events--> each job's listener

A job that is cancelled is left out of the next batch; a batch all of whose jobs are cancelled
ends at its next event. What a seed gives does not depend on who else is in the batch.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from emu3.errors import InputError
from emu3.web.tasks import Task, most_items

LINGER = 0.01  # seconds that the first of several simultaneous jobs waits for the others


class Full(Exception):
    """So many jobs wait that no more are taken."""


@dataclass(frozen=True)
class Failed:
    """A job's last event where it was not done: bad input, or a fault of ours."""

    message: str
    bad_input: bool


def failed(error: Exception) -> Failed:
    """The last event of a job that an error ended."""
    if isinstance(error, InputError):
        return Failed(str(error), bad_input=True)
    return Failed(f"{type(error).__name__}: {error}", bad_input=False)


@dataclass(eq=False)
class Job:
    """What one client asked for: an item of a task, and who hears of it.

    `listen` is called with each event from the worker's thread, at last with one of the task's
    `last` or `Failed`.
    """

    task: Task
    item: Any
    listen: Callable[[Any], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)


class Worker:
    """Jobs in, events out, one batch at a time.

    Args:
        models: an `emu3.loading.Emu3`.
        most_together: jobs of one batch.
        most_waiting: jobs that may wait.
        watch: called with the task and size of each batch before it runs.
    """

    def __init__(
        self,
        models: Any,
        most_together: int = 16,
        most_waiting: int = 64,
        watch: Callable[[Task, int], None] = lambda task, size: None,
    ) -> None:
        self.models, self.watch = models, watch
        self.most_together, self.most_waiting = most_together, most_waiting
        self.waiting: deque[Job] = deque()
        self.change = threading.Condition()
        self.open = True
        self.thread = threading.Thread(target=self._serve, name="emu3-worker", daemon=True)
        self.thread.start()

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            Full: as many wait as may.
        """
        self.submit_all([job])

    def submit_all(self, jobs: Sequence[Job]) -> None:
        """Let several jobs wait, all of them or none.

        Raises:
            Full: there is no room for all.
            InputError: there never is for so many.
        """
        if len(jobs) > self.most_waiting:
            raise InputError(
                f"{len(jobs)} at once; allowed: up to {self.most_waiting}, which is all that may "
                "wait here; ask for fewer"
            )
        with self.change:
            self._drop_cancelled()
            if not self.open or len(self.waiting) + len(jobs) > self.most_waiting:
                raise Full
            self.waiting.extend(jobs)
            self.change.notify()

    def stop(self) -> None:
        """Take no more, and end what runs at its next event."""
        with self.change:
            self.open = False
            self.change.notify()

    def close(self, seconds: float = 10.0) -> None:
        """Stop, and wait for it."""
        self.stop()
        self.thread.join(seconds)

    @property
    def queued(self) -> int:
        """How many jobs wait whose clients are still there."""
        with self.change:
            self._drop_cancelled()
            return len(self.waiting)

    @property
    def alive(self) -> bool:
        """Whether jobs are still answered."""
        return self.thread.is_alive()

    def _serve(self) -> None:
        while self.open:
            if batch := self._next_batch():
                self.watch(batch[0].task, len(batch))
                self._answer(batch)
        for job in self.waiting:
            job.listen(Failed("the server is stopping", bad_input=False))

    def _next_batch(self) -> list[Job]:
        """Jobs of equal tasks, oldest first, of clients that are still there."""
        with self.change:
            self.change.wait_for(lambda: self.waiting or not self.open)
            self.change.wait_for(lambda: not self.open, LINGER)
            self._drop_cancelled()
            if not self.open or not self.waiting:
                return []
            first = self.waiting[0].task
            most = most_items(min(self.most_together, first.together), first.each)
            batch = [job for job in self.waiting if job.task == first][:most]
            taken = set(map(id, batch))
            self.waiting = deque(job for job in self.waiting if id(job) not in taken)
            return batch

    def _drop_cancelled(self) -> None:
        self.waiting = deque(job for job in self.waiting if not job.cancelled.is_set())

    def _answer(self, batch: list[Job]) -> None:
        try:
            self._run(batch)
        except Exception as error:  # whatever it is, the next batch is served
            if isinstance(error, InputError) and len(batch) > 1:
                self._sort_out(batch)
            else:
                for job in batch:
                    job.listen(failed(error))

    def _sort_out(self, batch: list[Job]) -> None:
        """Answer the bad jobs of a batch, then the others together: the fault is not theirs."""
        good = [job for job in batch if self._is_good(job)]
        together = len(good) < len(batch)  # else it is being together that cannot be
        for part in [good] if together else [[job] for job in good]:
            if part:
                self._answer(part)

    def _is_good(self, job: Job) -> bool:
        """Whether a job can be done alone; one that cannot is answered."""
        try:
            job.task.check(self.models, job.item)
        except Exception as error:  # as above
            job.listen(failed(error))
            return False
        return True

    def _run(self, batch: list[Job]) -> None:
        events = batch[0].task.run(self.models, [job.item for job in batch])
        try:
            for index, event in events:
                if not self.open:
                    raise RuntimeError("the server is stopping")
                batch[index].listen(event)
                if all(job.cancelled.is_set() for job in batch):
                    return
        finally:
            events.close()
