"""Measurements of training: `python -m train.measure.NAME`."""
