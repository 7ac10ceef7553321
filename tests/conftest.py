"""Shared set-up: every test runs on CPU in PyNative mode."""

import os

os.environ.setdefault("GLOG_v", "3")

import pytest

from emu3 import runtime


@pytest.fixture(scope="session", autouse=True)
def device() -> str:
    """Choose the CPU once for the whole session."""
    return runtime.setup(device="CPU")
