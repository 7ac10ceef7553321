"""Measure emu3-mini: `python -m emu3.cli.evaluate {t2i,vqa,reconstruction,all}`.

t2i draws held-out prompts and reads the pictures back by pixel analysis (train.judge), vqa asks
held-out questions and wants exact answers, reconstruction rebuilds held-out scenes. Prints a
table; a JSON file holds it too, with every single prompt, question and verdict.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from emu3.cli import common, decoding, flags
from emu3.cli.batches import Models
from emu3.files import atomic_path, writable_folder

TASKS = ("t2i", "vqa", "reconstruction")
COUNTS = {"t2i": 500, "vqa": 500, "reconstruction": 200}


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = common.make_parser("evaluate", "Measure emu3-mini on held-out scenes.")
    parser.add_argument("task", choices=[*TASKS, "all"], help="what to measure")
    common.add_language_option(parser)
    common.add_vision_option(parser)
    parser.add_argument(
        "--count",
        type=flags.positive_int,
        metavar="N",
        help="prompts, questions or scenes (default: 500, 500 and 200)",
    )
    flags.add_numbers(parser, ("--batch-size", 20, "items generated together"))
    parser.add_argument(
        "--guidance",
        type=flags.non_negative_float,
        metavar="G",
        help="how strongly a prompt steers; 1 is without guidance (default: the checkpoint's)",
    )
    parser.add_argument(
        "--output",
        default="outputs/evaluation.json",
        metavar="FILE",
        help="JSON file for figures and single verdicts (default: %(default)s)",
    )
    parser.add_argument(
        "--new",
        action="store_true",
        help="t2i and vqa: scenes with the colour or shape that only fine-tuning teaches",
    )
    parser.add_argument(
        "--pictures", metavar="FOLDER", help="also save every generated or rebuilt picture here"
    )
    common.add_sampling_options(parser, greedy=False)
    decoding.add_options(parser)
    common.add_device_options(parser)
    return parser


def run(options: argparse.Namespace) -> None:
    """Measure, print the table, write the JSON file, a task at a time."""
    writable_folder(Path(options.output).parent)
    common.start_device(options)
    measure = {"t2i": measure_t2i, "vqa": measure_vqa, "reconstruction": measure_reconstruction}
    models = Models(options)
    watch, report = common.Stopwatch(), {"settings": models.settings}
    for task in TASKS if options.task == "all" else [options.task]:
        report[task] = measure[task](models, options.count or COUNTS[task])
        if task == "t2i":
            report[task]["decoding"] = models.decoding.label
        print_section(task, report[task])
        with atomic_path(options.output) as path:
            path.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    print(options.output)
    print(watch.closing_line("evaluated"))


def measure_t2i(models: Models, count: int) -> dict:
    """Draw prompts and let the judge read the pictures."""
    from train.evaluation import make_prompts, ratio_name
    from train.judge import check

    prompts = make_prompts(count, models.options.seed, models.options.new)

    sizes = np.array([(p.scene.rows, p.scene.cols) for p in prompts])

    def draw(some: list[int]) -> list[np.ndarray]:
        seeds = [models.options.seed + i for i in some]
        return models.draw([prompts[i].text for i in some], sizes[some], seeds)

    pictures, seconds = in_batches(draw, sizes, models.options.batch_size, "t2i")
    save_pictures(models.options.pictures, "t2i", pictures)
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


def measure_vqa(models: Models, count: int) -> dict:
    """Ask questions and compare the answers."""
    from train.evaluation import make_questions, ratio_name
    from train.scenes import draw

    questions = make_questions(count, models.options.seed, models.options.new)

    images = [draw(q.scene) for q in questions]

    def ask(some: list[int]) -> list[str]:
        return models.answer([questions[i].text for i in some], [images[i] for i in some])

    sizes = [image.size for image in images]
    answers, seconds = in_batches(ask, sizes, models.options.batch_size, "vqa")
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


def measure_reconstruction(models: Models, count: int) -> dict:
    """Rebuild scenes; the judge must read the same, and PSNR and SSIM are taken."""
    from emu3.metrics import psnr, ssim
    from train.evaluation import make_scenes, ratio_name
    from train.judge import read, same
    from train.scenes import draw

    scenes = make_scenes(count, models.options.seed)
    images = [draw(scene) for scene in scenes]

    def rebuild(some: list[int]) -> list[np.ndarray]:
        return models.rebuild([images[i] for i in some])

    sizes = [image.size for image in images]
    rebuilt, seconds = in_batches(rebuild, sizes, models.options.batch_size, "reconstruction")
    save_pictures(models.options.pictures, "reconstruction", rebuilt)
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
    work: Callable[[list[int]], list], sizes: Sequence, batch_size: int, name: str
) -> tuple[list, float]:
    """Do `work` on the items' indices in batches of one size; its results in order, and seconds."""
    from tqdm import tqdm

    watch, results = common.Stopwatch(), [None] * len(sizes)
    with tqdm(total=len(sizes), desc=name, file=sys.stderr) as bar:
        for some in batches_of_one_size([tuple(size) for size in sizes], batch_size):
            for index, result in zip(some, work(some)):
                results[index] = result
            bar.update(len(some))
    return results, watch.seconds


def batches_of_one_size(sizes: list[tuple[int, int]], batch_size: int) -> Iterator[list[int]]:
    """Indices in groups of at most `batch_size` that share their size."""
    for size in dict.fromkeys(sizes):
        alike = [i for i, other in enumerate(sizes) if other == size]
        for start in range(0, len(alike), batch_size):
            yield alike[start : start + batch_size]


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
    from train.evaluation import rates

    parts = {"all": rates(("right", r["right"]) for r in records)}
    if "attributes" in records[0]:
        parts["attribute"] = rates(pair for r in records for pair in r["attributes"].items())
    parts |= {name: rates((r[name], r["right"]) for r in records) for name in groups}
    return {"right_of_total": parts, "records": records}


def print_section(task: str, section: dict) -> None:
    """The table of one task."""
    print(f"\n{task} ({section['seconds']:.0f} s)")
    for part, groups in section["right_of_total"].items():
        for group, (right, total) in groups.items():
            print(f"  {part:12} {group:10} {right:4d} of {total:4d}  {100 * right / total:5.1f} %")
    if "forwards" in section:
        print(f"  {section['forwards']:.1f} forwards a picture, decoding {section['decoding']}")
    if "psnr" in section:
        print(f"  PSNR {section['psnr']:.2f} dB, SSIM {section['ssim']:.4f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.run_command(run, build_parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
