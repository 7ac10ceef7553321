"""Fixtures that turn this CPU into what an Ascend card is documented to be."""

import mindspore as ms
import pytest

from tests.ascend import doubles


@pytest.fixture
def half(monkeypatch):
    """Ascend with float16 in bfloat16's place: the flow of dtypes."""
    doubles.install(monkeypatch, ms.float16)


@pytest.fixture
def exact(monkeypatch):
    """Ascend with float32 in bfloat16's place: results that can be compared to the last digit."""
    doubles.install(monkeypatch, ms.float32)
    monkeypatch.setattr("emu3.nn.ascend.fits", lambda *_: True)
