"""The benchmark command on a tiny net."""

import pytest

from emu3.cli import benchmark

SIZES = {
    "hidden": 32,
    "layers": 2,
    "heads": 4,
    "kv-heads": 2,
    "inner": 48,
    "vocabulary": 200,
    "prefix": 16,
    "block": 2,
    "repeats": 2,
}
TINY = ["decode", "--device=CPU", *(f"--{name}={value}" for name, value in SIZES.items())]


def test_decode_prints_time_bytes_share_and_compile_time(capsys):
    assert benchmark.main(TINY) == 0
    printed = capsys.readouterr().out
    for what in ("memory read", "ms/token", "GB/s", "% of it", "compiled in"):
        assert what in printed


def test_a_peer_that_cannot_run_is_named(capsys):
    code = benchmark.main([*TINY, "--peer", "torch", "--peer-python", "/nowhere/python"])
    assert code == 2
    assert "--peer-python" in capsys.readouterr().err


@pytest.mark.parametrize("threads", [1, 2])
def test_read_bandwidth_is_plausible(threads):
    assert 1e8 < benchmark.read_bandwidth(threads) < 1e13
