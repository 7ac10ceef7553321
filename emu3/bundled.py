"""What comes with the package: emu3-mini, the demo picture and clip, example records.

A wheel carries them inside the package; a checkout keeps them in `assets/` beside it.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ASSETS = next(
    (folder for folder in (PACKAGE / "assets", PACKAGE.parent / "assets") if folder.is_dir()),
    PACKAGE / "assets",
)
MINI = "emu3-mini"
MINI_LANGUAGE = ASSETS / MINI / "language"
MINI_VISION = ASSETS / MINI / "vision"
DEMO_IMAGE = ASSETS / "demo.png"
DEMO_CLIP = ASSETS / "demo_clip"
EVALUATION = (
    ASSETS / "evaluation"
)  # a few prompts and questions of our own, as the suites list them
EXAMPLE_RECORDS = ASSETS / "training"  # for train/, so only in a checkout
