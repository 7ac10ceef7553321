"""Real jobs of 2 and 4 processes: everything shared must give what one process gives."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from train import launch as launcher

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1e-5


def launch(processes: int, *command: str) -> subprocess.CompletedProcess:
    program = [sys.executable, "-m", "train.launch", "-n", str(processes), *command]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(program, env=environment, text=True, capture_output=True, timeout=500)


# Two processes exchange by doubles of Ascend's native collectives, four as CPUs do.
@pytest.mark.parametrize(
    ("processes", "module"), [(2, "tests.ascend.native"), (4, "train.measure.parity")]
)
def test_shared_training_equals_training_alone(processes, module, tmp_path):
    output = tmp_path / "parity.json"
    arguments = ["--logs", str(tmp_path), module, "--steps", "2"]
    done = launch(processes, *arguments, "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads(output.read_text())
    assert {case["zero_stage"] for case in cases} == {0, 1, 2, 3}
    assert {case["sequence_shards"] for case in cases} >= {1, processes}
    for case in cases:
        assert max(case["loss"], case["gradients"], case["weights"]) < LIMIT, case


def test_processes_that_were_told_to_stop_may_take_their_time(monkeypatch):
    monkeypatch.setattr(launcher, "GRACE", 0.5)
    programs = ("import sys; sys.exit(130)", "import time; time.sleep(2)")
    workers = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
    assert launcher.wait(workers) == 130
    assert workers[1].returncode == 0


def test_processes_beside_a_failed_one_are_ended(monkeypatch):
    monkeypatch.setattr(launcher, "GRACE", 0.5)
    programs = ("import sys; sys.exit(3)", "import time; time.sleep(60)")
    workers = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
    assert launcher.wait(workers) == 3
    assert workers[1].returncode < 0


def test_a_process_that_a_signal_ended_is_named(monkeypatch, capsys):
    monkeypatch.setattr(launcher, "GRACE", 0.5)
    programs = ("import os; os.kill(os.getpid(), 9)", "import time; time.sleep(60)")
    workers = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
    assert launcher.wait(workers) == 128 + 9
    text = capsys.readouterr().out
    assert text == "worker 0 was ended by SIGKILL: the machine may be out of memory\n"


def test_a_failure_that_the_terminal_did_not_show_is_said(tmp_path, capsys):
    program = "import os, sys; print('no such thing', '[INFO] DISTRIBUTED(1) x', sep='\\n'); "
    program += "sys.exit(2 * int(os.environ['MS_NODE_ID']))"
    assert launcher.run([sys.executable, "-c", program], 2, None, tmp_path) == 2
    assert "worker 1 ended with code 2: no such thing" in capsys.readouterr().out


def test_a_process_that_ended_at_once_is_named_too(capsys):
    program = "import os; os.kill(os.getpid(), 9)"
    assert launcher.run([sys.executable, "-c", program], 1, None, Path()) == 128 + 9
    assert "worker 0 was ended by SIGKILL" in capsys.readouterr().out


def test_of_several_failures_the_one_by_a_signal_is_named(capsys):
    programs = ("import sys; sys.exit(1)", "import os; os.kill(os.getpid(), 9)")
    workers = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
    for worker in workers:
        worker.wait()
    assert launcher.wait(workers) == 128 + 9
    assert "worker 1 was ended by SIGKILL" in capsys.readouterr().out


def test_a_port_in_use_is_named_before_anything_starts(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        arguments = ["-n", "2", "--port", port, "--logs", str(tmp_path), "no.such.module"]
        assert launcher.main(arguments) == 2
    text = capsys.readouterr().err
    assert f"cannot listen at port {port}" in text and "change --port" in text


def test_a_port_is_a_port():
    with pytest.raises(SystemExit):
        launcher.build_parser().parse_args(["--port", "70000", "x"])


def test_what_the_scheduler_died_of_is_quoted(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(launcher, "GRACE", 0.5)
    monkeypatch.setattr(launcher, "SCHEDULER", "raise ValueError('no such address')")
    assert launcher.run([sys.executable, "-c", "import time; time.sleep(60)"], 2, None, tmp_path)
    assert "the scheduler ended with code 1: ValueError: no such address" in capfd.readouterr().out


def test_an_exported_device_is_not_every_workers_own(monkeypatch, tmp_path):
    monkeypatch.setenv("DEVICE_ID", "5")
    monkeypatch.setattr(launcher, "SCHEDULER", "pass")
    program = "import os, pathlib; rank, device = (os.environ[n] for n in ('MS_NODE_ID', "
    program += "'DEVICE_ID')); pathlib.Path(rank).write_text(device)"
    monkeypatch.chdir(tmp_path)
    assert launcher.run([sys.executable, "-c", program], 2, None, tmp_path) == 0
    assert [(tmp_path / rank).read_text() for rank in ("0", "1")] == ["0", "1"]


def test_a_process_alone_inherits_no_job(monkeypatch):
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    program = "import os, sys; sys.exit('MS_ROLE' in os.environ)"
    assert launcher.run([sys.executable, "-c", program], 1, None, Path()) == 0


def test_lines_about_connections_are_not_passed_on(tmp_path, capfd):
    program = "import sys; print('[INFO] DISTRIBUTED(1) x', 'error', sep='\\n', file=sys.stderr)"
    assert launcher.run([sys.executable, "-c", program], 2, None, tmp_path) == 0
    assert capfd.readouterr().err == "error\n"


def test_the_exit_code_of_a_job_is_that_of_the_process_that_failed(tmp_path):
    done = launch(2, "--logs", str(tmp_path), "train.train_seq_parallel")
    assert done.returncode == 2
    assert "--train_data_path" in done.stderr
