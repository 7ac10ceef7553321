"""Kill drawing or preparing at random moments: `python -m train.measure.kills {drawing,preparing}`.

After each kill (SIGKILL) every file under its final name must be whole and none of before gone; in
the end the same command must finish and leave nothing half-written. `train.measure.endurance` does
the same with a training.
"""

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from emu3.cli.shell import command, leave
from emu3.codesfile import Codes
from emu3.errors import InputError
from emu3.files import read_json
from emu3.images import open_image
from emu3.options import non_negative_float, non_negative_int, option, whole

WORKS = ("drawing", "preparing")
PICTURES = 1000  # to prepare
START_UP = 6.0  # seconds, within which one kill in four falls
LONGEST = 60.0  # seconds until a first file, at most


@dataclass(frozen=True)
class Options:
    """Of this command."""

    what: str = option("what is killed", positional=True, choices=WORKS)
    output: str = option("folder of its files", "outputs/kills", metavar="FOLDER")
    kills: int = option("how often", 20, whole(1, 10_000))
    span: float = option("seconds after a new file, at most", 2.0, non_negative_float)
    seed: int = option("seed of the moments", 0, non_negative_int)


def arguments(what: str, folder: Path) -> list[str]:
    """The command whose output folder is `folder`/out; pictures to prepare are made beside it."""
    out = str(folder / "out")
    if what == "drawing":
        drawn = ["--images-per-prompt", "8", "--batch-size", "1", "--output", out]
        return ["emu3.cli.img_gen", "--prompt", "a red circle", *drawn]
    from PIL import Image

    records = []
    for number in range(PICTURES):
        name = f"{number:04d}"
        shade = (number % 256, number // 4, 90)
        Image.new("RGB", (96 + 16 * (number % 2), 96), shade).save(folder / f"{name}.png")
        records.append({"name": name, "text": f"picture {number}", "image": f"{name}.png"})
    path = folder / "records.json"
    path.write_text(json.dumps(records))
    return ["train.prepare_vision_data", "--data-path", str(path), "--output-path", out]


def finished(folder: Path) -> set[Path]:
    """Files under final names; hidden ones are under way."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path for path in found if not path.name.startswith(".")}


def damage(path: Path) -> str:
    """What is wrong with a file, "" where nothing is."""
    from train.data.features import read_feature
    from train.data.shards import members

    readers = {".png": open_image, ".npz": Codes.load, ".ckpt": read_feature, ".json": read_json}
    readers[".zip"] = members
    try:
        readers.get(path.suffix, Path.read_bytes)(path)
    except InputError as error:
        return str(error)
    return ""


def kill_once(program: list[str], folder: Path, span: float, rng: random.Random) -> bool:
    """Start and kill, mostly a moment after a new file; whether it was still running."""
    before = len(finished(folder))
    early, moment = rng.random() < 0.25, rng.random()
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + (moment * START_UP if early else LONGEST)
        while process.poll() is None and time.monotonic() < end:
            if not early and len(finished(folder)) > before:
                time.sleep(moment * span)
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def run(options: Options) -> int:
    """Print a line a kill; returns 1 when anything was lost."""
    folder = Path(options.output)
    if folder.exists():
        raise InputError(f"{folder} is there already; allowed: a new folder; change --output")
    folder.mkdir(parents=True)
    program = [sys.executable, "-m", *arguments(options.what, folder)]
    rng, out, lost, known = random.Random(options.seed), folder / "out", 0, set()
    for number in range(options.kills):
        killed = kill_once(program, out, options.span, rng)
        files = finished(out)
        wrong = [f"{path}: {text}" for path in sorted(files) if (text := damage(path))]
        wrong += [f"{path} is gone" for path in sorted(known - files)]
        known, lost = files, lost + len(wrong)
        how = "killed" if killed else "had ended"
        print(f"{number + 1}/{options.kills} {how}: {len(files)} whole", *wrong, flush=True)
    last = subprocess.run(program, capture_output=True, text=True)
    code = last.returncode
    if code:
        print(last.stderr)
    left = [path.name for path in out.rglob(".*")]
    print(
        f"{lost} lost; the same command ended with {code}, {len(finished(out))} files, {left} left"
    )
    return int(lost > 0 or code != 0 or bool(left) or any(map(damage, finished(out))))


build_parser, main = command(
    "train.measure.kills", "Kill drawing or preparing at random moments.", Options, run
)

if __name__ == "__main__":
    leave(main())
