"""Measure emu3-mini: `python -m train.mini.evaluate {t2i,clips,vqa,...,all}`.

Pictures and clips are read back by pixel analysis (train.mini.world.reading), answers must be
exact. Prints a table; a JSON file holds it too, with every single item and verdict. Every second
item is a combination that training never shows.
"""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from emu3.cli import options as shared
from emu3.cli.outputs import Stopwatch
from emu3.cli.shell import command, leave
from emu3.errors import InputError
from emu3.files import atomic_path, writable_folder
from emu3.options import group, option, whole
from emu3.pipeline import DrawSettings

TASKS = (
    "reconstruction",
    "t2i",
    "composition",
    "variety",
    "clips",
    "extension",
    "chained",
    "vqa",
    "clip_vqa",
    "edits",
    "drawings",
)
ANEW = ("t2i", "vqa")  # what fine-tuning may teach
PAINTED = ("t2i", "composition", "variety", "edits")  # what makes pictures
PAINTERS = ("vision", "world")
GROUPS = ("split", "number", "ratio", "verb", "kind", "language", "what", "sides")
VERDICTS = (
    "count",
    "thing",
    "things",
    "colour",
    "size",
    "place",
    "relation",
    "ground",
    "start",
    "direction",
)
MEANS = ("psnr", "distance", "layouts")


@dataclass(frozen=True)
class Options:
    """Of this command."""

    task: str = option("what to measure", positional=True, choices=[*TASKS, "all"])
    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    count: int | None = option("items (default: what the task states)", None, whole(1, 10**6))
    batch_size: int = option("items made together", 10, whole(1, 10_000))
    seed: int = shared.seed()
    output: str = option(
        "JSON file for figures and single verdicts", "outputs/evaluation.json", metavar="FILE"
    )
    new: bool = option(
        "t2i and vqa: scenes with the colour or kind that only fine-tuning teaches", False
    )
    painter: str = option(
        "who draws the codes of pictures: the vision tokenizer, or the world's own rules, which "
        "shows what the language model alone knows",
        "vision",
        choices=PAINTERS,
    )
    settings: DrawSettings = group(leave_out=("suffix", "negative_prompt"))
    weights: str | None = shared.weights()
    device: shared.Device = group()

    def __post_init__(self) -> None:
        if self.new and self.task not in ANEW:
            raise InputError(
                f"--new with {self.task}; allowed: {', '.join(ANEW)}; leave it out or change the "
                "task"
            )
        if self.painter == "world" and self.task not in PAINTED:
            raise InputError(
                f"--painter world with {self.task}; allowed: {', '.join(PAINTED)}; leave it out or "
                "change the task"
            )
        if self.weights is not None and self.task == "reconstruction":
            raise InputError(
                f"--weights {self.weights} with {self.task}, which loads no language model; "
                "allowed: every other task; leave it out or change the task"
            )


def run(options: Options) -> None:
    """Measure, print the table, write the JSON file, a task at a time."""
    writable_folder(Path(options.output).parent)
    options.device.start()
    from train.mini.evaluate.asked import Asked
    from train.mini.evaluate.measures import MEASURES
    from train.mini.evaluate.models import Models

    language = None if options.task == "reconstruction" else options.model
    models = Models(
        language,
        options.vq_model,
        options.settings,
        options.device,
        options.weights,
        options.painter,
    )
    names = {name: shared.public_name(getattr(options, name)) for name in ("model", "vq_model")}
    report = {"settings": asdict(replace(options, settings=models.settings)) | names}
    for task in TASKS if options.task == "all" else [options.task]:
        watch, (measure, count) = Stopwatch(), MEASURES[task]
        asked = Asked(options.count or count, options.seed, options.batch_size, options.new)
        records = measure(models, asked)
        report[task] = {"figures": figures(records), "seconds": watch.seconds, "records": records}
        if forwards := models.forwards_of_one():
            report[task] |= {"decoding": models.settings.label, "forwards": forwards}
        show(task, report[task])
        with atomic_path(options.output) as path:
            path.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    print(options.output)


def figures(records: list[dict]) -> dict:
    """Right and total overall, by what is stated and by group, and the means."""
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for record in records:
        names = {"all": record["right"]}
        names |= {name: record[name] for name in VERDICTS if name in record}
        names |= {f"{name} {record[name]}": record["right"] for name in GROUPS if name in record}
        for name, right in names.items():
            counted[name][0] += bool(right)
            counted[name][1] += 1
    means = {n: float(np.mean([r[n] for r in records])) for n in MEANS if n in records[0]}
    return {"right_of_total": dict(counted), "means": means}


def show(task: str, section: dict) -> None:
    """The table of one task."""
    print(f"\n{task} ({section['seconds']:.0f} s)")
    for name, (right, total) in section["figures"]["right_of_total"].items():
        print(f"  {name:24} {right:4d} of {total:4d}  {100 * right / total:5.1f} %")
    for name, value in section["figures"]["means"].items():
        print(f"  mean {name}: {value:.3f}")
    if "forwards" in section:
        forwards, label = section["forwards"], section["decoding"]
        print(f"  {forwards:.1f} runs of the network a picture or clip, decoding {label}")


build_parser, main = command("train.mini.evaluate", "Measure emu3-mini.", Options, run)

if __name__ == "__main__":
    leave(main())
