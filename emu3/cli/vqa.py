"""Questions about images: `python -m emu3.cli.vqa --image photo.png --question "What is it?"`."""

import argparse
from collections.abc import Sequence

import numpy as np

from emu3.cli import common, flags
from emu3.cli.progress import Progress
from emu3.errors import InputError

EXAMPLE_IMAGE = common.ASSETS / "demo.png"
EXAMPLE_QUESTIONS = ("Please describe the image", "请描述该图片")


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = common.make_parser("vqa", "Answer questions about images.")
    common.add_language_option(parser)
    common.add_vision_option(parser)
    parser.add_argument(
        "--image",
        action="append",
        metavar="FILE",
        help="image to ask about; one for all questions or one a question "
        "(default: a bundled image)",
    )
    parser.add_argument(
        "--question",
        action="append",
        metavar="TEXT",
        help="may be given several times; one for all images or one an image "
        "(default: asks for a description in English and in Chinese)",
    )
    parser.add_argument(
        "--template",
        metavar="NAME",
        help="chat, stage1, or a text with {image_prompt} and {text_prompt} "
        "(default: the checkpoint's)",
    )
    flags.add_numbers(parser, ("--max-new-tokens", 1024, "longest answer in tokens"))
    flags.add_numbers(parser, ("--batch-size", 4, "questions answered together"))
    common.add_sampling_options(parser, greedy=True)
    common.add_device_options(parser)
    return parser


def run(options: argparse.Namespace) -> None:
    """Answer every question; prints question and answer."""
    pairs = pair_up(options.image or [str(EXAMPLE_IMAGE)], options.question or EXAMPLE_QUESTIONS)
    images = {path: common.open_image(path) for path, _ in pairs}
    common.start_device(options)
    from emu3.mllm import Emu3Processor
    from emu3.mllm.defaults import CheckpointDefaults

    defaults = CheckpointDefaults.from_pretrained(options.model)
    common.fill_in(options, {"top_k": defaults.top_k, "top_p": defaults.top_p})
    vision, image_processor = common.load_vision(options)
    for path, image in images.items():
        with common.about(path, "--image"):
            image_processor(image)
    model, tokenizer = common.load_language(options)
    common.check_same_codes(model, vision)
    template = options.template or defaults.chat_template
    processor = Emu3Processor(image_processor, vision, tokenizer, chat_template=template)
    watch = common.Stopwatch()
    with Progress(None, "token") as progress:
        for start in range(0, len(pairs), options.batch_size):
            batch = pairs[start : start + options.batch_size]
            answers = Answers(len(batch))
            try:
                ask(options, model, processor, batch, images, start, answers, progress)
            except KeyboardInterrupt:
                progress.bar.clear()
                answers.show(batch, tokenizer)
                raise
            progress.bar.clear()
            answers.show(batch, tokenizer)
    print(watch.closing_line(f"{len(pairs)} answer(s)", progress.tokens))


class Answers:
    """The ids of each answer of a batch, as far as they have come."""

    def __init__(self, count: int) -> None:
        self.ids: list[list[int]] = [[] for _ in range(count)]

    def show(self, batch: list[tuple[str, str]], tokenizer) -> None:
        """Print each question with its answer."""
        for (path, question), ids in zip(batch, self.ids):
            print(
                f"{path}\n  Q: {question}\n  A: {tokenizer.decode(ids, skip_special_tokens=True)}"
            )


def pair_up(images: Sequence[str], questions: Sequence[str]) -> list[tuple[str, str]]:
    """(image, question) pairs; one image or one question serves all the others.

    Raises:
        InputError: both counts exceed one and differ.
    """
    count = max(len(images), len(questions))
    if len(images) not in (1, count) or len(questions) not in (1, count):
        raise InputError(
            f"{len(images)} images and {len(questions)} questions; allowed: equal counts, or one "
            "of either; change --image or --question"
        )
    images = list(images) * (count // len(images))
    questions = list(questions) * (count // len(questions))
    return list(zip(images, questions))


def ask(options, model, processor, batch, images, start, answers, progress) -> None:
    """Answer a batch of pairs; fills `answers` as the tokens come."""
    from emu3.mllm.generation import TextPiece

    inputs = processor(
        text=[question for _, question in batch],
        image=[images[path] for path, _ in batch],
        mode="U",
        padding="longest",
        return_tensors="ms",
    )
    events = model.stream(
        inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=options.max_new_tokens,
        seed=[options.seed + start + row for row in range(len(batch))],
        jit=common.compile_step(options),
        **common.sampling_arguments(options),
    )
    for event in events:
        if isinstance(event, TextPiece):
            ids = np.asarray(event.ids).reshape(-1).tolist()
            answers.ids[event.sequence] += ids
            progress.add(len(ids), len(ids))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.run_command(run, build_parser(), arguments)


if __name__ == "__main__":
    common.leave(main())
