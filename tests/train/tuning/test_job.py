"""Variables of a job that is not there are named instead of waited for."""

import socket

import pytest

from emu3.errors import InputError
from train.tuning import job

LEFT_OVER = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "2", "MS_SCHED_HOST": "127.0.0.1"}


def refused(monkeypatch, device: str = "CPU", **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(job, "SCHEDULER_WAIT", 0.1)
    with pytest.raises(InputError) as error:
        job.check_job(device)
    return str(error.value)


def test_a_role_alone_is_left_over(monkeypatch):
    assert "unset MS_ROLE" in refused(monkeypatch, MS_ROLE="MS_WORKER")


@pytest.mark.parametrize("port", ["1", "x", "70000"])
def test_a_scheduler_that_does_not_listen_is_named(port, monkeypatch):
    assert f"127.0.0.1:{port}" in refused(monkeypatch, **LEFT_OVER, MS_SCHED_PORT=port)


def test_a_scheduler_that_listens_is_one(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        variables = LEFT_OVER | {"MS_SCHED_PORT": str(server.getsockname()[1])}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        job.check_job("CPU")


def test_a_rank_table_is_for_ascend(monkeypatch):
    assert "RANK_TABLE_FILE" in refused(monkeypatch, RANK_TABLE_FILE="/x")
    job.check_job("Ascend")
