"""What the commands share: exit codes, options, loading, and the closing line.

Heavy modules are imported inside functions, so that --help answers at once.
"""

import argparse
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from emu3.cli import flags
from emu3.errors import InputError

BAD_INPUT = 2
INTERRUPTED = 130
ASSETS = Path(__file__).resolve().parents[2] / "assets"
MINI_LANGUAGE = ASSETS / "emu3-mini" / "language"
MINI_VISION = ASSETS / "emu3-mini" / "vision"


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a wrong option with one line."""

    def error(self, message: str) -> None:
        """Print the message and exit with code 2."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (--help lists the options)\n")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C after which something was kept; the message says what and how to go on."""


def run_command(
    run: Callable[[argparse.Namespace], int | None],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
) -> int:
    """Parse, run, and turn bad input into one line and an exit code.

    Returns:
        What `run` returns, 0 for None; 2 for bad input, 130 after Ctrl-C.
    """
    options = parser.parse_args(arguments)
    os.environ.setdefault("GLOG_v", "3")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        with interruptible():
            return run(options) or 0
    except InputError as error:
        return _complain(parser, str(error), BAD_INPUT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(parser, f"{where}{error.strerror or error}", BAD_INPUT)
    except KeyboardInterrupt as interruption:
        return _complain(parser, str(interruption) or "interrupted", INTERRUPTED)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt too.

    Inside a compiled graph MindSpore answers Ctrl-C with a SIGTERM to its own process.
    """

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def leave(code: int) -> None:
    """End the process; after Ctrl-C at once, for a half-imported MindSpore cannot clean up."""
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _complain(parser: argparse.ArgumentParser, message: str, code: int) -> int:
    line = " ".join(message.split())
    word = "error: " if code == BAD_INPUT else ""
    print(f"{parser.prog}: {word}{line}", file=sys.stderr)
    return code


def make_parser(name: str, description: str) -> Parser:
    """An empty parser for `python -m emu3.cli.<name>`."""
    return Parser(prog=f"emu3.cli.{name}", description=description)


def parser_with_defaults(program: str, description: str | None) -> Parser:
    """An empty parser for `python -m <program>` whose help states every default."""
    return Parser(
        prog=program,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def add_language_option(parser: argparse.ArgumentParser) -> None:
    """--model."""
    parser.add_argument(
        "--model",
        default=str(MINI_LANGUAGE),
        metavar="PATH",
        help="language model: a folder or a hub id such as BAAI/Emu3-Gen (default: emu3-mini)",
    )


def add_vision_option(parser: argparse.ArgumentParser) -> None:
    """--vq-model."""
    parser.add_argument(
        "--vq-model",
        default=str(MINI_VISION),
        metavar="PATH",
        help="vision tokenizer: a folder or a hub id such as BAAI/Emu3-VisionTokenizer "
        "(default: emu3-mini's)",
    )


def add_tile_option(parser: argparse.ArgumentParser) -> None:
    """--tile."""
    parser.add_argument(
        "--tile",
        type=flags.positive_int,
        metavar="PIXELS",
        help="code pictures and frames of longer sides in overlapping tiles of this side: less "
        "memory, slightly other results (default: whole)",
    )


def add_device_options(parser: argparse.ArgumentParser, attention: bool = True) -> None:
    """--device, --device-id, --mode, --dtype, --threads and, if wanted, --attn-implementation."""
    group = parser.add_argument_group("device")
    group.add_argument(
        "--device", default="auto", help="auto, CPU or Ascend (default: Ascend where there is one)"
    )
    group.add_argument(
        "--device-id",
        type=int,
        metavar="N",
        help="index of the Ascend card among ASCEND_RT_VISIBLE_DEVICES (default: $DEVICE_ID or 0)",
    )
    group.add_argument(
        "--mode",
        default="auto",
        help="graph compiles everything, pynative nothing, auto only the decoding step "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--dtype", help="float32, float16 or bfloat16 (default: float32 on CPU, else bfloat16)"
    )
    group.add_argument(
        "--threads", type=flags.positive_int, metavar="N", help="CPU threads (default: all cores)"
    )
    if attention:
        group.add_argument(
            "--attn-implementation",
            metavar="NAME",
            help="eager, sdpa or flash_attention_2 (default: eager on CPU, flash on Ascend)",
        )


def add_sampling_options(parser: argparse.ArgumentParser, greedy: bool) -> None:
    """--temperature, --top-k, --top-p and --seed; `greedy` if the command does not sample."""
    group = parser.add_argument_group("sampling")
    silent = "0: the likeliest token" if greedy else "the checkpoint's"
    group.add_argument(
        "--temperature",
        type=flags.non_negative_float,
        metavar="T",
        default=0.0 if greedy else None,
        help=f"0 takes the likeliest token, higher is more varied (default: {silent})",
    )
    group.add_argument(
        "--top-k",
        type=flags.positive_int,
        metavar="K",
        help="sample among the K likeliest tokens (default: the checkpoint's)",
    )
    group.add_argument(
        "--top-p",
        type=flags.probability,
        metavar="P",
        help="sample among the likeliest tokens that hold this much probability "
        "(default: the checkpoint's)",
    )
    group.add_argument(
        "--seed",
        type=flags.non_negative_int,
        default=0,
        metavar="N",
        help="the same seed gives the same output (default: %(default)s)",
    )


def start_device(options: argparse.Namespace) -> None:
    """Choose device, mode and threads as the options say."""
    from emu3 import runtime

    mode = "pynative" if options.mode == "auto" else options.mode
    runtime.setup(options.device, options.device_id, mode, options.threads)
    runtime.resolve_dtype(options.dtype)


def compile_step(options: argparse.Namespace) -> bool | None:
    """What `--mode` means for the decoding step: True, False, or None for the model's choice."""
    return {"graph": True, "pynative": False}.get(options.mode)


def fill_in(options: argparse.Namespace, defaults: dict) -> None:
    """Set the options the user left out."""
    for name, value in defaults.items():
        if getattr(options, name, None) is None:
            setattr(options, name, value)


def kept_message(kept: Sequence[Path], vq_model: str, finished: Sequence[Path] = ()) -> str:
    """What Ctrl-C leaves behind: codes to decode and how, and pictures that are finished."""
    if not kept and not finished:
        return "interrupted before anything was finished"
    parts = ["interrupted"]
    if finished:
        parts.append(f"finished: {shlex.join(map(str, finished))}")
    if kept:
        command = [sys.executable, "-m", "emu3.cli.decode", *map(str, kept), "--vq-model", vq_model]
        parts.append(f"what has no picture yet is kept, decode it with: {shlex.join(command)}")
    return "; ".join(parts)


def sampling_arguments(options: argparse.Namespace) -> dict:
    """The options of `add_sampling_options` as generation settings, without the seed."""
    if not options.temperature:
        return {"do_sample": False}
    settings = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p")}
    return {"do_sample": True, **settings}


def load_language(options: argparse.Namespace):
    """The language model and its tokenizer (padding on the left)."""
    from emu3.mllm import Emu3ForCausalLM, Emu3Tokenizer
    from emu3.mllm.vocabulary import check_same_words

    tokenizer = Emu3Tokenizer.from_pretrained(options.model, padding_side="left")
    model = Emu3ForCausalLM.from_pretrained(
        options.model,
        mindspore_dtype=options.dtype,
        attn_implementation=options.attn_implementation,
    )
    check_same_words(model.config, tokenizer)
    return model.set_train(False), tokenizer


def load_vision(options: argparse.Namespace):
    """The vision tokenizer and its image processor."""
    from emu3.tokenizer import Emu3VisionVQImageProcessor, Emu3VisionVQModel

    image_processor = Emu3VisionVQImageProcessor.from_pretrained(options.vq_model)
    vision = Emu3VisionVQModel.from_pretrained(options.vq_model, mindspore_dtype=options.dtype)
    return vision.set_train(False), image_processor


def tiled(vision, options: argparse.Namespace):
    """The vision tokenizer, in tiles where --tile says so."""
    from emu3.tokenizer import TiledVision

    return TiledVision(vision, options.tile) if options.tile else vision


def check_same_codes(model, vision) -> None:
    """Refuse a language model and a vision tokenizer of different code counts.

    Raises:
        InputError: they do not belong together.
    """
    from emu3.mllm.vocabulary import Vocabulary

    ours, theirs = Vocabulary.from_config(model.config).visual_count, vision.config.codebook_size
    if ours != theirs:
        raise InputError(
            f"the language model has {ours} visual tokens, the vision tokenizer {theirs} codes; "
            "allowed: models that belong together; change --model or --vq-model"
        )


def open_image(path: str | Path, flag: str = "--image"):
    """The image in `path` as an RGB PIL image.

    Raises:
        InputError: no such file, or no image; names `flag`.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise InputError(f"no image {path}; change {flag}") from None
    # A damaged file makes Pillow raise nearly anything, SyntaxError and struct.error included.
    except Exception as error:
        raise InputError(f"{path} cannot be read as an image: {error}; change {flag}") from None


@contextmanager
def about(what: str | Path, flag: str) -> Iterator[None]:
    """Let an InputError also name what it is about and the flag that gave it.

    Raises:
        InputError: the block's, with both.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error} or change {flag}") from None


class Stopwatch:
    """Seconds since it was made, and the line a command ends with."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self.start

    def closing_line(self, what: str, tokens: int | None = None) -> str:
        """`what`, seconds, tokens/s and peak memory."""
        from emu3.runtime import peak_memory_bytes

        speed = f", {tokens / self.seconds:.1f} tokens/s" if tokens else ""
        return (
            f"{what} in {self.seconds:.1f} s{speed}, "
            f"peak memory {peak_memory_bytes() / 2**30:.2f} GiB"
        )
