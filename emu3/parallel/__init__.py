"""Groups of processes, collectives between them, and sequence parallelism."""
