"""Memory and number of inputs of a fuzzing run."""

import os
import resource

import pytest
from hypothesis import HealthCheck, settings

MOST_MEMORY = 2 * 2**30  # bytes that a target may add to this process

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))  # of each target

settings.register_profile(
    "fuzz",
    max_examples=EXAMPLES,
    deadline=20_000,  # milliseconds of one input
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fuzz")


@pytest.fixture(autouse=True)
def bounded_memory():
    """Fail a target whose inputs filled the memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MOST_MEMORY, f"{grown / 2**30:.1f} GiB more than before"
