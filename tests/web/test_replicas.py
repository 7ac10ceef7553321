"""Two replicas behind nginx: one is killed, and nothing but its running requests is lost."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.web.conftest import picture_of

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = [
    f"a {colour} {kind}" for colour in ("red", "blue", "green") for kind in ("star", "circle")
]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def farm(tmp_path) -> Iterator[tuple[int, list[subprocess.Popen]]]:
    """The address of nginx, and the replicas behind it."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    assert Path(nginx).exists(), "nginx is needed: apt-get install nginx"
    front, *ports = free_port(), free_port(), free_port()
    text = (ROOT / "configs/nginx.conf").read_text().replace("/tmp/", f"{tmp_path}/")
    for written, port in (("8000", front), ("8001", ports[0]), ("8002", ports[1])):
        text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{port}")
    (tmp_path / "nginx.conf").write_text(text)
    serve = [sys.executable, "-m", "emu3.cli.serve", "--threads", "1", "--port"]
    replicas = [subprocess.Popen([*serve, str(port)], cwd=ROOT) for port in ports]
    proxy = subprocess.Popen([nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")])
    try:
        until = time.monotonic() + 120
        while not all(map(answers, [*ports, front])) and time.monotonic() < until:
            time.sleep(0.2)
        yield front, replicas
    finally:
        for process in (*replicas, proxy):
            process.terminate()
        for process in (*replicas, proxy):
            process.wait(30)


def test_a_killed_replica_costs_its_running_requests_alone(farm, models):
    front, (first, _) = farm
    client = OpenAI(base_url=f"http://127.0.0.1:{front}/v1", api_key="none", max_retries=3)

    def draw(prompt: str) -> bytes:
        done = client.images.generate(prompt=prompt, extra_body={"seed": 1})
        return picture_of(done.data[0].b64_json).tobytes()

    with ThreadPoolExecutor(len(PROMPTS)) as clients:
        running = [clients.submit(draw, prompt) for prompt in PROMPTS * 2]
        time.sleep(1)
        os.kill(first.pid, signal.SIGKILL)
        drawn = [one.result(120) for one in running]
    assert drawn == [models.draw(prompt, seed=1).tobytes() for prompt in PROMPTS] * 2
    assert draw(PROMPTS[0]) == drawn[0]
