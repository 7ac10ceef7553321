"""Emu3 on MindSpore: one causal transformer that reads and writes text and images.

Importing this package changes no global state. `emu3.load()` gives a model that draws, answers and
rebuilds; `emu3.runtime.setup` chooses a device for those who use the classes themselves.
"""

from typing import TYPE_CHECKING

from emu3.lazy import lazy_names

if TYPE_CHECKING:
    from emu3.loading import Emu3, load

__all__ = ["Emu3", "load"]
__version__ = "0.1.0"

__getattr__ = lazy_names(__name__, {"Emu3": ".loading", "load": ".loading"})
