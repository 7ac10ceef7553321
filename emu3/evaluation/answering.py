"""How often questions about pictures are answered right, from a file of JSON lines.

    {"image": "red.png", "question": "Which colour is it?", "answer": "red"}
    {"image": "red.png", "question": "Which colour is it?", "answers": ["red", "red", ... ten]}

OUTPUT/answers.jsonl has every record as it was, with "prediction" and "accuracy" behind.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from os.path import isfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emu3 import bundled
from emu3.cli import options as shared
from emu3.cli.outputs import Stopwatch
from emu3.cli.room import require_room_for_answers
from emu3.cli.shell import Interrupted
from emu3.cli.vqa import encoded
from emu3.errors import InputError, shown
from emu3.evaluation.scores import accuracy
from emu3.evaluation.suites import read_lines
from emu3.files import atomic_path, note_settings, own_folder, parse_object, write_json
from emu3.images import open_image
from emu3.loading import check_same_codes, load_language, load_vision, read_configs
from emu3.options import group, option, path_text, plain_text, whole
from emu3.pipeline import Answers, AskSettings, in_lists

FLAG = "--questions"
PICTURES_KEPT = 256  # codes in memory


@dataclass(frozen=True)
class Options:
    """Of `vqa`."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    questions: str = option(
        "JSON lines of image, question, and answer or answers (default: a few bundled ones)",
        str(bundled.EVALUATION / "vqa.jsonl"),
        path_text,
        metavar="FILE",
    )
    images: str | None = option(
        "folder that images are relative to (default: the file's own)",
        None,
        path_text,
        metavar="FOLDER",
    )
    suffix: str = option(
        'added to every question as it is, such as " Answer in one word."', "", plain_text
    )
    output: str = option(
        "folder to write or go on with", "outputs/evaluation/vqa", path_text, metavar="FOLDER"
    )
    limit: int = option("only the first so many questions, 0 for all", 0, whole(0, 10**7))
    settings: AskSettings = group(max_new_tokens=32)
    batch_size: int = option("questions answered together", 4, whole(1, 10_000))
    seed: int = shared.seed()
    weights: str | None = shared.weights()
    device: shared.Device = group()


@dataclass(frozen=True)
class Record:
    """A question: its place in the file, its picture's path, its text, the wanted answers, and
    all that its line says."""

    place: int
    image: Path
    question: str
    wanted: list[str]
    about: dict


def run(options: Options) -> None:
    """Answer what is missing; print and save the accuracy."""
    path, output = Path(options.questions), own_folder(options.output)
    records = read_records(path, Path(options.images or path.parent))[: options.limit or None]
    options.device.start()
    note_settings(output, about(options, records))
    answers = read_answers(output / "answers.jsonl", records)
    watch, missing = Stopwatch(), [r for r in records if r.place not in answers]
    if missing:
        desk = Desk(options, missing)
        try:
            with (output / "answers.jsonl").open("a", encoding="utf-8") as file:
                for batch in in_lists(tqdm(missing, unit="question"), options.batch_size):
                    for record, text in zip(batch, desk.answers(batch)):
                        answers[record.place] = scored(record, text)
                        file.write(json.dumps(answers[record.place], ensure_ascii=False) + "\n")
                    file.flush()
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; {output} is kept, the same command goes on") from None
    right = [answers[record.place]["accuracy"] for record in records]
    write_json(
        output / "summary.json", {"questions": len(right), "accuracy": float(np.mean(right))}
    )
    print(f"accuracy {100 * np.mean(right):.2f} % of {len(right)} questions")
    print(watch.closing_line(f"{output / 'answers.jsonl'}: {len(missing)} new answer(s)"))


def about(options: Options, records: list[Record]) -> dict:
    """What answers are made from: another setting or file is another evaluation."""
    names = {"model": options.model, "vq_model": options.vq_model, "questions": options.questions}
    settings = {key: shared.public_name(name) for key, name in names.items()}
    more = ("suffix", "seed", "weights")
    return settings | vars(options.settings) | {name: getattr(options, name) for name in more}


def read_records(path: Path, images: Path) -> list[Record]:
    """The questions of a file, whose pictures exist.

    Raises:
        InputError: names the line.
    """
    records = []
    for line, about in read_lines(path, FLAG):
        where = f"{path}, line {line}"
        image, question = about.get("image"), about.get("question")
        wanted = about.get("answers", [about.get("answer")])
        for what, value in (("image", image), ("question", question)):
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"{where}: {what} {shown(value)}; allowed: text; change {FLAG}")
        if (
            not isinstance(wanted, list)
            or not all(isinstance(w, str) for w in wanted)
            or not wanted
        ):
            raise InputError(
                f"{where}: needs answer, a text, or answers, a list of texts; change {FLAG}"
            )
        if not isfile(images / image):
            raise InputError(
                f"{where}: no picture {shown(image)} in {images}; change --images or {FLAG}"
            )
        records.append(Record(len(records), images / image, question, wanted, about))
    return records


def read_answers(path: Path, records: list[Record]) -> dict[int, dict]:
    """The answers that were given before, by the place of their question; half a line goes.

    Raises:
        InputError: one belongs to another question.
    """
    found = {}
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for line, record in zip(lines, records):
        answer = parse_object(line, f"a line of {path}", "change --output")
        asked = {key: answer.get(key) for key in record.about}
        if asked != record.about or not isinstance(answer.get("accuracy"), float):
            raise InputError(f"{path} holds answers to other questions; change --output")
        found[record.place] = answer
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"".join(line + b"\n" for line in lines))
    return found


def scored(record: Record, text: str) -> dict:
    """The record's line with what was answered, and how right that is."""
    return record.about | {"prediction": text, "accuracy": accuracy(text, record.wanted)}


class Desk:
    """Where questions are answered, some at once; pictures are coded as they come."""

    def __init__(self, options: Options, records: list[Record]) -> None:
        from emu3.mllm.defaults import CheckpointDefaults
        from emu3.mllm.prompts import PromptBuilder
        from emu3.tokenizer import VisionCodec

        device, self.options = options.device, options
        defaults = CheckpointDefaults.from_pretrained(options.model)
        self.codec = VisionCodec(*load_vision(options.vq_model, device.dtype))
        self.codes = lru_cache(PICTURES_KEPT)(self._codes)
        config, _ = read_configs(options.model, options.vq_model)
        first = [h * (w + 1) for h, w in self._grids(records[: options.batch_size])]
        weights = require_room_for_answers(
            config, self.codec.config, first, device.dtype, options.weights
        )
        model, tokenizer = load_language(
            options.model, device.dtype, device.attn_implementation, weights
        )
        check_same_codes(model, self.codec.vision)
        self.asking = Answers(model, PromptBuilder.stated(tokenizer, defaults))
        self.settings = options.settings.filled(defaults)

    def answers(self, batch: list[Record]) -> list[str]:
        """The answers to a batch of questions."""
        request = self.asking.request(
            [record.question + self.options.suffix for record in batch],
            [self.codes(record.image) for record in batch],
            self.settings,
            [self.options.seed + record.place for record in batch],
            self.options.device.jit,
        )
        return [text.strip() for text in self.asking.texts(request)]

    def _grids(self, records: list[Record]) -> Iterator[tuple[int, int]]:
        return (self.codes(record.image).shape for record in records)

    def _codes(self, image: Path) -> np.ndarray:
        return encoded(self.codec, str(image), open_image(image), self.options.device.dtype)
