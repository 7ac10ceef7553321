"""What waits together is answered together; what one client does is not another's trouble."""

import threading
from dataclasses import dataclass, field

import pytest

from emu3.errors import InputError
from emu3.pipeline import DrawSettings
from emu3.web.tasks import Film, Rebuild
from emu3.web.warmup import do_once, warm_up
from emu3.web.worker import Failed, Full, Job, Worker


@dataclass(frozen=True)
class Echo:
    """A task that hands each item back, `times` times, once it is let go."""

    name: str = "echo"
    times: int = 1
    together: int = 64
    each: int = 1
    gate: threading.Event = field(default_factory=threading.Event, compare=False)
    batches: list = field(default_factory=list, compare=False)

    def run(self, models, items):
        """Wait for the gate, refuse what is bad or does not go together, break at "broken"."""
        self.batches.append(list(items))
        self.gate.wait(10)
        for item in items:
            self.check(models, item)
        if {"long", "large"} <= set(items):
            raise InputError("long and large do not go together")
        if "broken" in items:
            raise RuntimeError("broken")
        for _ in range(self.times):
            yield from enumerate(items)

    def check(self, models, item):
        """Refuse "bad"."""
        if item == "bad":
            raise InputError("bad is not allowed")


def heard(worker, task, item):
    """Submit an item; its job and what it hears."""
    events, done = [], threading.Event()

    def listen(event):
        events.append(event)
        done.set()

    job = Job(task, item, listen)
    worker.submit(job)
    return job, events, done


@pytest.fixture
def worker():
    working = Worker(None, most_together=4, most_waiting=3)
    yield working
    working.close()


def held(worker):
    """A task that runs already, so that everything else waits."""
    task = Echo(name="held")
    heard(worker, task, "first")
    while not task.batches:
        pass
    return task


def test_equal_tasks_that_wait_share_a_batch(worker):
    first, task = held(worker), Echo()
    jobs = [heard(worker, task, item) for item in ("a", "b")] + [heard(worker, Echo("other"), "c")]
    task.gate.set(), first.gate.set()
    assert jobs[1][2].wait(5)
    assert task.batches == [["a", "b"]]


@pytest.mark.parametrize("task", [Rebuild(), Film(DrawSettings())])
def test_what_is_not_computed_together_is_taken_one_at_a_time(task):
    sizes = []
    working = Worker(None, watch=lambda task, size: sizes.append(size))
    first = held(working)
    jobs = [heard(working, task, item) for item in ("a", "b")]
    first.gate.set()
    assert all(done.wait(5) for _, _, done in jobs)
    working.close()
    assert sizes == [1, 1, 1]


def test_more_than_may_wait_are_refused(worker):
    first, task = held(worker), Echo()
    for item in "abc":
        heard(worker, task, item)
    with pytest.raises(Full):
        heard(worker, task, "d")
    task.gate.set(), first.gate.set()


def test_more_at_once_than_may_ever_wait_is_bad_input(worker):
    with pytest.raises(InputError, match="4 at once; allowed: up to 3"):
        worker.submit_all([Job(Echo(), item, print) for item in "abcd"])


def test_clients_that_have_left_keep_no_place(worker):
    first, task = held(worker), Echo()
    for item in "abc":
        heard(worker, task, item)[0].cancelled.set()
    assert worker.queued == 0
    for item in "def":
        heard(worker, task, item)[0].cancelled.set()
    _, _, done = heard(worker, task, "g")
    task.gate.set(), first.gate.set()
    assert done.wait(5) and task.batches == [["g"]]


def test_bad_input_of_one_is_not_the_others(worker):
    first, task = held(worker), Echo()
    jobs = [heard(worker, task, item) for item in ("a", "bad", "b")]
    task.gate.set(), first.gate.set()
    assert all(done.wait(5) for _, _, done in jobs)
    assert [events for _, events, _ in jobs] == [
        ["a"],
        [Failed("bad is not allowed", bad_input=True)],
        ["b"],
    ]
    assert task.batches == [["a", "bad", "b"], ["a", "b"]]


def test_what_cannot_be_together_is_done_alone(worker):
    first, task = held(worker), Echo()
    jobs = [heard(worker, task, item) for item in ("long", "large")]
    task.gate.set(), first.gate.set()
    assert all(done.wait(5) for _, _, done in jobs)
    assert [events for _, events, _ in jobs] == [["long"], ["large"]]


def test_a_fault_of_ours_ends_its_batch_alone(worker):
    broken, after = Echo(), Echo("after")
    broken.gate.set(), after.gate.set()
    _, events, done = heard(worker, broken, "broken")
    assert done.wait(5) and not events[0].bad_input
    _, events, done = heard(worker, after, "a")
    assert done.wait(5) and events == ["a"]


def test_a_cancelled_job_is_left_out(worker):
    first, task = held(worker), Echo()
    gone, there = heard(worker, task, "a"), heard(worker, task, "b")
    gone[0].cancelled.set()
    task.gate.set(), first.gate.set()
    assert there[2].wait(5)
    assert task.batches == [["b"]] and not gone[1]


def test_a_batch_whose_clients_have_all_left_ends(worker):
    task = Echo(times=10**9)
    job, _, done = heard(worker, task, "a")
    task.gate.set()
    assert done.wait(5)
    job.cancelled.set()
    after = Echo("after")
    after.gate.set()
    assert heard(worker, after, "b")[2].wait(5)


def test_warming_up_does_each_work_once(models):
    begun, done = [], threading.Event()
    working = Worker(models, watch=lambda task, size: begun.append(task.name))
    warm_up(working, lambda seconds: done.set())
    assert done.wait(120)
    working.close()
    assert begun == ["draw", "rebuild", "ask", "edit"]


def test_a_piece_of_the_warm_up_ends_when_a_visitor_waits(worker):
    endless, after = Echo(times=10**9), Echo("after")
    endless.gate.set(), after.gate.set()
    threading.Thread(target=do_once, args=(worker, endless, "piece"), daemon=True).start()
    while not endless.batches:
        pass
    assert heard(worker, after, "b")[2].wait(5)
