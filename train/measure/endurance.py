"""Kill a run at random moments and see that it always goes on: `python -m train.measure.endurance`.

Starts the fine-tuning command, kills it (SIGKILL) at random moments, saves included, and starts it
again; every checkpoint found in between must be whole, and the last weights must be those of a
run that nobody killed. They agree to rounding only: how MindSpore's CPU kernels split their sums
depends on the moment, so that even two undisturbed runs may differ in the last bits.
"""

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from emu3.bundled import MINI_LANGUAGE
from emu3.cli.shell import command, leave
from emu3.errors import InputError
from emu3.options import non_negative_float, non_negative_int, option, whole
from train.tuning.checkpoints import STATE, checkpoints

LIMIT = 1e-5  # relative difference of a tensor, norm(a - b) / norm(b)


@dataclass(frozen=True)
class Options:
    """Of this command."""

    data: str = option("feature folder", "outputs/new_scenes/t2i", metavar="FOLDER")
    model: str = option("start model", str(MINI_LANGUAGE), metavar="PATH")
    output: str = option("folder of the runs", "outputs/endurance", metavar="FOLDER")
    kills: int = option("how often", 20, whole(1, 10_000))
    span: float = option("seconds after a step, at most", 0.6, non_negative_float)
    steps: int = option("steps of the run", 100, whole(1, 10**7))
    seed: int = option("seed of the moments", 0, non_negative_int)


def start(output: Path, options: Options) -> subprocess.Popen:
    """The command, saving after every step."""
    arguments = ["--train_data_path", options.data, "--output_dir", str(output)]
    arguments += ["--model_name_or_path", options.model, "--max_steps", str(options.steps)]
    arguments += ["--save_steps", "1", "--mode", "pynative", "--learning_rate", "1e-3"]
    arguments += ["--per_device_train_batch_size", "2"]
    program = [sys.executable, "-m", "train.train_seq_parallel", *arguments]
    return subprocess.Popen(program, stdout=subprocess.PIPE, text=True)


def is_whole(checkpoint: Path) -> bool:
    """Whether both files of a checkpoint can be read to the last tensor."""
    try:
        return all(len(load_file(checkpoint / name)) for name in ("model.safetensors", STATE))
    except Exception as error:  # whatever is wrong with it, it is not whole
        print(f"{checkpoint}: {error}")
        return False


def kill_once(output: Path, options: Options, rng: random.Random) -> tuple[str, bool]:
    """Start, kill a moment after a random step; returns what was there, and whether whole."""
    with start(output, options) as process:
        wanted = rng.randint(1, 6)
        for line in process.stdout:
            wanted -= line.startswith("step ")
            if wanted <= 0:
                break
        time.sleep(rng.random() * options.span)
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise InputError("the run ended before it was killed; give it more --steps")
    unfinished = [p.name for p in output.glob(".unfinished-*")]
    found = checkpoints(output)
    last = found[-1].name if found else "none yet"
    note = f"killed; last {last}" + (f", during the save of {unfinished}" if unfinished else "")
    return note, all(is_whole(path) for path in found)


def run(options: Options) -> int:
    """Print a line a kill; returns 1 when anything was damaged."""
    rng, output = random.Random(options.seed), Path(options.output)
    if not Path(options.data).exists():
        raise InputError(f"no {options.data}; `train.prepare_scene_data` writes it; change --data")
    if output.exists():
        raise InputError(f"{output} is there already; allowed: a new folder; change --output")
    damaged = 0
    for number in range(options.kills):
        note, good = kill_once(output / "killed", options, rng)
        damaged += not good
        print(f"{number + 1}/{options.kills} {note}: {'whole' if good else 'DAMAGED'}", flush=True)
    for name in ("killed", "undisturbed"):
        with start(output / name, options) as process:
            process.stdout.read()
    ends = [checkpoints(output / name)[-1] for name in ("killed", "undisturbed")]
    first, second = (load_file(end / "model.safetensors") for end in ends)
    apart = max(
        float(np.linalg.norm(first[name] - second[name]) / np.linalg.norm(second[name]))
        for name in second
    )
    print(f"{damaged} damaged; ends: {ends[0].name}, {ends[1].name}, {apart:.1e} apart")
    return int(damaged > 0 or ends[0].name != ends[1].name or apart > LIMIT)


build_parser, main = command(
    "train.measure.endurance", "Kill a run at random moments and see that it goes on.", Options, run
)

if __name__ == "__main__":
    leave(main())
