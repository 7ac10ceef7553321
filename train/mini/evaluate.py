"""Measure emu3-mini: `python -m train.mini.evaluate {t2i,vqa,reconstruction,all}`.

t2i draws held-out prompts and reads the pictures back by pixel analysis (train.mini.judge), vqa
asks held-out questions and wants exact answers, reconstruction rebuilds held-out scenes. Prints a
table; a JSON file holds it too, with every single prompt, question and verdict.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emu3.cli import options as shared
from emu3.cli.outputs import Stopwatch
from emu3.cli.shell import command, leave
from emu3.files import atomic_path, writable_folder
from emu3.options import group, option, whole
from emu3.pipeline import DrawSettings, Picture, in_lists
from train.mini.evaluation import make_prompts, make_questions, make_scenes, rates, ratio_name

if TYPE_CHECKING:
    from train.mini.models import Models

TASKS = ("t2i", "vqa", "reconstruction")
COUNTS = {"t2i": 500, "vqa": 500, "reconstruction": 200}


@dataclass(frozen=True)
class Options:
    """Of this command."""

    task: str = option("what to measure", positional=True, choices=[*TASKS, "all"])
    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    count: int | None = option(
        "prompts, questions or scenes (default: 500, 500 and 200)", None, whole(1, 10**6)
    )
    batch_size: int = option("items generated together", 20, whole(1, 10_000))
    seed: int = shared.seed()
    output: str = option(
        "JSON file for figures and single verdicts", "outputs/evaluation.json", metavar="FILE"
    )
    new: bool = option(
        "t2i and vqa: scenes with the colour or shape that only fine-tuning teaches", False
    )
    pictures: str | None = option(
        "also save every generated or rebuilt picture here (default: nowhere)", metavar="FOLDER"
    )
    settings: DrawSettings = group(leave_out=("suffix", "negative_prompt"))
    weights: str | None = shared.weights()
    device: shared.Device = group()


def run(options: Options) -> None:
    """Measure, print the table, write the JSON file, a task at a time."""
    writable_folder(Path(options.output).parent)
    if options.pictures is not None:
        writable_folder(options.pictures, "--pictures")
    options.device.start()
    from train.mini.models import Models

    measure = {"t2i": measure_t2i, "vqa": measure_vqa, "reconstruction": measure_reconstruction}
    language = None if options.task == "reconstruction" else options.model
    models = Models(language, options.vq_model, options.settings, options.device, options.weights)
    watch, report = Stopwatch(), {"settings": stated(options, models.settings)}
    for task in TASKS if options.task == "all" else [options.task]:
        report[task] = measure[task](models, options, options.count or COUNTS[task])
        if task == "t2i":
            report[task]["decoding"] = models.settings.scheme.label
        print_section(task, report[task])
        with atomic_path(options.output) as path:
            path.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    print(options.output)
    print(watch.closing_line("evaluated"))


def stated(options: Options, settings: DrawSettings) -> dict:
    """The options and the settings they came to, by name."""
    named = asdict(replace(options, settings=settings))
    inner = named.pop("settings") | named.pop("device")
    return named | inner


def measure_t2i(models: "Models", options: Options, count: int) -> dict:
    """Draw prompts and let the judge read the pictures."""
    from train.mini.judge import check

    prompts = make_prompts(count, options.seed, options.new)
    sizes = [(prompt.scene.rows, prompt.scene.cols) for prompt in prompts]
    asked = [
        Picture(prompt.text, size, options.seed + i)
        for i, (prompt, size) in enumerate(zip(prompts, sizes))
    ]

    def draw(some: list[int]) -> list[np.ndarray]:
        return models.draw([asked[i] for i in some])

    pictures, seconds = in_batches(draw, sizes, options.batch_size, "t2i")
    save_pictures(options.pictures, "t2i", pictures)
    records = []
    for prompt, picture in zip(prompts, pictures):
        verdict = check(picture, prompt.facts)
        records.append(
            {
                "prompt": prompt.text,
                "right": verdict.pop("right"),
                "attributes": verdict,
                "language": prompt.language,
                "ratio": ratio_name(prompt.scene),
                "shapes": str(prompt.facts.count),
                "combination": "held out" if prompt.held_out else "trained",
            }
        )
    parts = summary(records, ("combination", "language", "ratio", "shapes"))
    return parts | {"seconds": seconds, "forwards": models.forwards / count}


def measure_vqa(models: "Models", options: Options, count: int) -> dict:
    """Ask questions and compare the answers."""
    from train.mini.drawing import draw

    questions = make_questions(count, options.seed, options.new)
    images = [draw(q.scene) for q in questions]

    def ask(some: list[int]) -> list[str]:
        return models.answer([questions[i].text for i in some], [images[i] for i in some])

    sizes = [image.size for image in images]
    answers, seconds = in_batches(ask, sizes, options.batch_size, "vqa")
    records = [
        {
            "question": question.text,
            "answer": answer,
            "expected": question.answer,
            "right": question.is_right(answer),
            "kind": question.kind,
            "language": question.language,
            "ratio": ratio_name(question.scene),
            "combination": "held out" if question.held_out else "trained",
        }
        for question, answer in zip(questions, answers)
    ]
    return summary(records, ("kind", "combination", "language", "ratio")) | {"seconds": seconds}


def measure_reconstruction(models: "Models", options: Options, count: int) -> dict:
    """Rebuild scenes; the judge must read the same, and PSNR and SSIM are taken."""
    from emu3.metrics import psnr, ssim
    from train.mini.drawing import draw
    from train.mini.judge import read, same

    scenes = make_scenes(count, options.seed)
    images = [draw(scene) for scene in scenes]

    def rebuild(some: list[int]) -> list[np.ndarray]:
        return models.rebuild([images[i] for i in some])

    sizes = [image.size for image in images]
    rebuilt, seconds = in_batches(rebuild, sizes, options.batch_size, "reconstruction")
    save_pictures(options.pictures, "reconstruction", rebuilt)
    records = []
    for scene, image, picture in zip(scenes, images, rebuilt):
        verdict = same(read(image), read(picture))
        records.append(
            {
                "right": verdict.pop("right"),
                "attributes": verdict,
                "ratio": ratio_name(scene),
                "psnr": psnr(image, picture),
                "ssim": ssim(image, picture),
            }
        )
    means = {name: float(np.mean([r[name] for r in records])) for name in ("psnr", "ssim")}
    return summary(records, ("ratio",)) | means | {"seconds": seconds}


def in_batches(
    work: Callable[[list[int]], list], sizes: list[tuple[int, int]], batch_size: int, name: str
) -> tuple[list, float]:
    """Do `work` on the items' indices in batches of one size; its results in order, and seconds."""
    from tqdm import tqdm

    watch, results = Stopwatch(), [None] * len(sizes)
    with tqdm(total=len(sizes), desc=name, file=sys.stderr) as bar:
        for some in batches_of_one_size(sizes, batch_size):
            for index, result in zip(some, work(some)):
                results[index] = result
            bar.update(len(some))
    return results, watch.seconds


def batches_of_one_size(sizes: list[tuple[int, int]], batch_size: int) -> Iterator[list[int]]:
    """Indices in groups of at most `batch_size` that share their size."""
    for size in dict.fromkeys(sizes):
        yield from in_lists((i for i, other in enumerate(sizes) if other == size), batch_size)


def save_pictures(folder: str | None, name: str, pictures: list[np.ndarray]) -> None:
    """Write pictures as `name_0000.png` and so on, if a folder is given."""
    from PIL import Image

    if folder is None:
        return
    for i, picture in enumerate(pictures):
        with atomic_path(Path(folder) / f"{name}_{i:04d}.png") as path:
            Image.fromarray(picture).save(path, "PNG")


def summary(records: list[dict], groups: Iterable[str]) -> dict:
    """Right and total overall, by attribute and by each of `groups`, with the records."""
    parts = {"all": rates(("right", r["right"]) for r in records)}
    if "attributes" in records[0]:
        parts["attribute"] = rates(pair for r in records for pair in r["attributes"].items())
    parts |= {name: rates((r[name], r["right"]) for r in records) for name in groups}
    return {"right_of_total": parts, "records": records}


def print_section(task: str, section: dict) -> None:
    """The table of one task."""
    print(f"\n{task} ({section['seconds']:.0f} s)")
    for part, groups in section["right_of_total"].items():
        for name, (right, total) in groups.items():
            print(f"  {part:12} {name:10} {right:4d} of {total:4d}  {100 * right / total:5.1f} %")
    if "forwards" in section:
        print(f"  {section['forwards']:.1f} forwards a picture, decoding {section['decoding']}")
    if "psnr" in section:
        print(f"  PSNR {section['psnr']:.2f} dB, SSIM {section['ssim']:.4f}")


build_parser, main = command(
    "train.mini.evaluate", "Measure emu3-mini on held-out scenes.", Options, run
)

if __name__ == "__main__":
    leave(main())
