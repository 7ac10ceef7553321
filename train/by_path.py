"""`python train/NAME.py` as `python -m train.NAME`: the top-level commands begin with it.

Python puts a script's own folder on the search path, not the folder `train` and `emu3` are in.
"""

import runpy
import sys
from pathlib import Path


def run_as_module(file: str) -> None:
    """Run the module that `file` is, from the folder above; ends as that module ends."""
    path = Path(file).resolve()
    sys.path[0] = str(path.parent.parent)
    runpy.run_module(f"train.{path.stem}", run_name="__main__", alter_sys=True)
