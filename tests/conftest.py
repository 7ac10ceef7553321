"""Shared set-up: every test runs on CPU in PyNative mode."""

import os

os.environ.setdefault("GLOG_v", "3")

import pytest

from emu3 import runtime


@pytest.fixture(scope="session", autouse=True)
def device() -> str:
    """The CPU, for what is made once for the whole session."""
    return runtime.setup(device="CPU")


@pytest.fixture(autouse=True)
def context(device):
    """Undo the device and mode that commands choose, in fixtures and in tests."""
    runtime.setup(device="CPU")
    yield
    runtime.setup(device="CPU")
