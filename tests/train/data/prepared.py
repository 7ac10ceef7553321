"""Four captioned pictures, and the commands that prepare them."""

import json

from train import prepare_vision_data
from train.data.features import list_files, read_feature

SIZES = {"wide": (24, 16), "small": (16, 16), "also": (24, 16), "large": (64, 64)}  # width, height
LATENT = {"wide": (4, 6), "small": (4, 4), "also": (4, 6), "large": (8, 8)}


def write(folder, records):
    lines = "\n".join(json.dumps(record) for record in records)
    (folder / "data.jsonl").write_text(lines + "\n")


def prepare(folder, vision, *more, command=prepare_vision_data):
    args = ["--data-path", folder / "data.jsonl", "--output-path", folder / "out"]
    args += ["--model-path", vision, "--device", "CPU", "--batch-size", "2", *more]
    return command.main([str(a) for a in args])


def features(folder, split="train"):
    files = list_files(folder / "out" / "list" / f"{split}.json", "--data")
    return [read_feature(file) for file in files]


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in (folder / "out" / "feature").iterdir()}
