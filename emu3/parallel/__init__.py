"""Groups of processes, collectives between them, and sequence parallelism."""

import os


def started_by_launcher() -> bool:
    """Whether this process belongs to a job of several (msrun or a launcher)."""
    return "MS_ROLE" in os.environ or "RANK_TABLE_FILE" in os.environ
