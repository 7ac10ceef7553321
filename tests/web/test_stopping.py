"""Ctrl-C ends a server within seconds, whoever is connected, without a word of Python."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support import write_tiny_checkpoint
from tests.web.test_replicas import answers, free_port

ROOT = Path(__file__).resolve().parents[2]
# A server that draws without end.
ENDLESS = """
import sys, time
from emu3.cli import serve, shell, web
from emu3.web.tasks import Draw

def run(self, models, pictures):
    while True:
        time.sleep(0.01)
        yield 0, None

Draw.run = run
shell.leave({"serve": serve, "web": web}[sys.argv[1]].main(sys.argv[2:]))
"""
LONGEST = 10  # seconds


@pytest.fixture
def started(tmp_path) -> Iterator[Callable[[str], tuple[str, subprocess.Popen]]]:
    """Start `serve` or `web` of a tiny checkpoint; its address and process."""
    language, vision = write_tiny_checkpoint(tmp_path)
    processes = []

    def start(command: str) -> tuple[str, subprocess.Popen]:
        port = free_port()
        models = ["--model", str(language), "--vq-model", str(vision), "--device", "CPU"]
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, command, *models, "--port", str(port)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        while not answers(port):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        return f"http://127.0.0.1:{port}", process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def picture_under_way(address: str) -> None:
    """Ask for a picture, and wait until it is being made."""

    def ask() -> None:
        with suppress(httpx.HTTPError):
            httpx.post(f"{address}/v1/images/generations", json={"prompt": "a"}, timeout=60)

    threading.Thread(target=ask, daemon=True).start()
    begun = re.compile(r'emu3_batch_size_count\{task="draw"\} 2')  # after that of the warm-up
    until = time.monotonic() + 60
    while not begun.search(httpx.get(f"{address}/metrics").text):
        assert time.monotonic() < until
        time.sleep(0.1)


def open_page(address: str) -> None:
    """Hold the connection that tells gradio of an open page."""
    beating = threading.Event()

    def listen() -> None:
        with (
            suppress(httpx.HTTPError),
            httpx.stream("GET", f"{address}/gradio_api/heartbeat/a", timeout=60) as answer,
        ):
            beating.set()
            answer.read()

    threading.Thread(target=listen, daemon=True).start()
    assert beating.wait(LONGEST)


@pytest.mark.parametrize(("command", "connect"), [("serve", picture_under_way), ("web", open_page)])
def test_a_server_ends_within_seconds_of_ctrl_c(started, command, connect):
    address, process = started(command)
    connect(address)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=LONGEST)
    assert process.returncode == 130
    assert "Traceback" not in said
