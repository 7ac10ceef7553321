"""Emu3 on MindSpore: one causal transformer that reads and writes text and images.

Importing this package changes no global state; call `emu3.runtime.setup` to choose a device.
"""

__version__ = "0.1.0"
