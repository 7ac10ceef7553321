"""How far the making of emu3-mini is: `python -m train.mini.progress --output outputs/mini`.

Writes PNGs and a page: curves of the losses, sheets of the world and its clips, and of what the
models make of them as far as they are trained: rebuilt, drawn, filmed.
"""

import csv
import json
from collections import defaultdict
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from emu3.cli.shell import command, leave
from emu3.files import atomic_path
from emu3.options import option
from train.tuning.curves import curves

if TYPE_CHECKING:
    from train.mini.evaluate.models import Models

STREAM = 20261129
PROMPTS = (
    "a red house and a green tree",
    "a yellow sun above a blue boat at sea",
    "three blue stars",
    "an orange fish",
    "a white moon above a purple car at night",
    "a large purple butterfly",
    "一只红色的鸟",
    "a rocket in the snow",
)
CLIPS = (
    "a red car drives to the left past a green tree",
    "a yellow sun rises",
    "a blue circle bounces",
    "一艘红色的船向右航行",
)


@dataclass(frozen=True)
class Options:
    """Of this command."""

    output: str = option("folder of the stages", "outputs/mini", metavar="FOLDER")


def run(options: Options) -> None:
    """Draw what there is so far."""
    folder = Path(options.output)
    sheets = {}
    for stage in ("vision", "language"):
        log = folder / stage / "log.csv"
        if log.exists():
            sheets[f"losses_{stage}"] = curves(read_log(log))
    sheets["world"], sheets["clips"] = world_sheet(), clip_sheet()
    if (folder / "vision" / "config.json").exists():
        sheets |= made_sheets(folder)
    for name, sheet in sheets.items():
        with atomic_path(folder / f"{name}.png") as path:
            sheet.save(path, "PNG")
    with atomic_path(folder / "progress.html") as path:
        path.write_text(page(list(sheets), figures(folder)), encoding="utf-8")
    print(folder / "progress.html")


def read_log(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Losses by name: (step, loss) in order."""
    losses = defaultdict(list)
    with path.open(newline="") as file:
        for step, name, loss, *_ in csv.reader(file):
            losses[name].append((int(step), float(loss)))
    return losses


def sheet_of(pictures: list[np.ndarray], columns: int) -> Image.Image:
    """Pictures of one size side by side."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + 4), rows * (height + 4)), "white")
    for number, picture in enumerate(pictures):
        at = (number % columns * (width + 4), number // columns * (height + 4))
        sheet.paste(Image.fromarray(picture), at)
    return sheet


def world_sheet() -> Image.Image:
    """Scenes as they are drawn."""
    from train.mini.world.compose import random_scene
    from train.mini.world.draw import draw_array

    rng = np.random.default_rng(STREAM)
    return sheet_of([draw_array(random_scene(rng, ratio="1:1")) for _ in range(40)], 8)


def clip_sheet() -> Image.Image:
    """Clips as they are drawn, every third frame."""
    from train.mini.world.motion import frames_of, random_clip

    rng = np.random.default_rng(STREAM)
    frames = [frame for _ in range(8) for frame in frames_of(random_clip(rng))[3::2]]
    return sheet_of(frames, 7)


def made_sheets(folder: Path) -> dict[str, Image.Image]:
    """What the trained models make: pictures rebuilt, and drawn and filmed from text."""
    from emu3 import runtime
    from emu3.cli.options import Device
    from emu3.pipeline import DrawSettings
    from train.mini.evaluate.models import Models

    device = Device(device="CPU")
    device.start()
    language = folder / "language"
    model = str(language) if (language / "config.json").exists() else None
    models = Models(model, str(folder / "vision"), DrawSettings(), device)
    sheets = {"rebuilt": rebuilt_sheet(models)}
    if model is not None:
        runtime.notice(f"drawing {len(PROMPTS)} pictures and {len(CLIPS)} clips")
        codes = models.draw(PROMPTS, [(8, 8)] * len(PROMPTS), range(len(PROMPTS)))
        sheets["drawn"] = sheet_of([models.picture(made) for made in codes], 4)
        codes = models.film(CLIPS, (4, 8, 8), range(len(CLIPS)))
        frames = [frame for made in codes for frame in models.frames(made)[1::2]]
        sheets["filmed"] = sheet_of(frames, 8)
    return sheets


def rebuilt_sheet(models: "Models") -> Image.Image:
    """Scenes, and clips' frames, above what the vision tokenizer makes of them."""
    from train.mini.world.compose import random_scene
    from train.mini.world.draw import draw_array
    from train.mini.world.motion import frames_of, random_clip

    rng = np.random.default_rng(STREAM)
    drawn = [draw_array(random_scene(rng, ratio="1:1")) for _ in range(8)]
    rows = [*drawn, *(models.picture(models.encode([Image.fromarray(p)])[0]) for p in drawn)]
    for _ in range(2):
        frames = frames_of(random_clip(rng))
        rows += [*frames[1::2], *models.frames(models.encode_clip(frames))[1::2]]
    return sheet_of(rows, 8)


def figures(folder: Path) -> list[tuple[str, int, int]]:
    """Right and total of every task that was measured."""
    path = folder / "evaluation.json"
    if not path.exists():
        return []
    report = json.loads(path.read_text(encoding="utf-8"))
    tasks = [name for name in report if name != "settings"]
    return [(name, *report[name]["figures"]["right_of_total"]["all"]) for name in tasks]


def page(sheets: list[str], measured: list[tuple[str, int, int]]) -> str:
    """The page that shows the sheets, and the figures once there are any."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{right} of {total}</td></tr>"
        for name, right, total in measured
    )
    shown = "".join(f'<h2>{name}</h2><img src="{name}.png" alt="{name}">' for name in sheets)
    return (
        '<!doctype html><meta charset="utf-8"><title>emu3-mini</title>'
        "<style>body{font-family:sans-serif;margin:2em}img{max-width:100%}</style>"
        f"<h1>emu3-mini</h1><table>{rows}</table>{shown}\n"
    )


build_parser, main = command(
    "train.mini.progress", "Show how far the making of emu3-mini is.", Options, run
)

if __name__ == "__main__":
    leave(main())
