"""Benchmarks: what `python -m emu3.cli.benchmark` measures, one module a subject."""
