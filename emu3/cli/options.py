"""Options that several commands share: what they may be, their help, and their dataclasses."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu3 import bundled
from emu3.names import ATTENTION, DEVICES, DTYPES, MODES, check_name

if TYPE_CHECKING:
    from emu3.mllm.generation.schemes import Scheme


def add_numbers(parser, *options: tuple[str, int, str]) -> None:
    """Options (flag, default, meaning) that take a whole number from 1, in a parser or group."""
    for flag, default, what in options:
        parser.add_argument(
            flag,
            type=positive_int,
            default=default,
            metavar="N",
            help=f"{what} (default: %(default)s)",
        )


def positive_int(text: str) -> int:
    """A whole number >= 1, for argparse."""
    return _number(text, int, lambda x: x >= 1, "a whole number >= 1")


def non_negative_int(text: str) -> int:
    """A whole number >= 0, for argparse."""
    return _number(text, int, lambda x: x >= 0, "a whole number >= 0")


def non_negative_float(text: str) -> float:
    """A finite number >= 0, for argparse."""
    return _number(text, float, lambda x: 0 <= x < float("inf"), "a number >= 0")


def positive_float(text: str) -> float:
    """A finite number > 0, for argparse."""
    return _number(text, float, lambda x: 0 < x < float("inf"), "a number above 0")


def below_one(text: str) -> float:
    """A number in [0, 1), for argparse."""
    return _number(text, float, lambda x: 0 <= x < 1, "a number from 0 to below 1")


def probability(text: str) -> float:
    """A number in (0, 1], for argparse."""
    return _number(text, float, lambda x: 0 < x <= 1, "a number above 0 and up to 1")


def share(text: str) -> float:
    """A number in [0, 1], for argparse."""
    return _number(text, float, lambda x: 0 <= x <= 1, "a number from 0 to 1")


def _number(text: str, kind: type, fits: Callable, allowed: str):
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
    return value


@dataclass(frozen=True)
class Device:
    """What --device, --device-id, --mode, --dtype, --threads and --attn-implementation say.

    Raises:
        InputError: a word that nobody knows.
    """

    device: str = "auto"
    device_id: int | None = None
    mode: str = "auto"
    dtype: str | None = None
    threads: int | None = None
    attn_implementation: str | None = None

    def __post_init__(self) -> None:
        check_name("device", self.device.lower(), DEVICES, "--device")
        check_name("mode", self.mode, ("auto", *MODES), "--mode")
        if self.dtype is not None:
            check_name("dtype", self.dtype, DTYPES, "--dtype")
        if self.attn_implementation is not None:
            name = self.attn_implementation
            check_name("attention", name, ATTENTION, "--attn-implementation")

    def start(self) -> None:
        """Choose device, mode and threads for this process."""
        from emu3 import runtime

        mode = "pynative" if self.mode == "auto" else self.mode
        runtime.setup(self.device, self.device_id, mode, self.threads)
        runtime.resolve_dtype(self.dtype)

    @property
    def jit(self) -> bool | None:
        """Whether the decoding step is compiled; None for the model's choice."""
        return {"graph": True, "pynative": False}.get(self.mode)


def add_language_option(parser: argparse.ArgumentParser) -> None:
    """--model."""
    parser.add_argument(
        "--model",
        default=str(bundled.MINI_LANGUAGE),
        metavar="PATH",
        help="language model: a folder or a hub id such as BAAI/Emu3-Gen (default: emu3-mini)",
    )


def add_vision_option(parser: argparse.ArgumentParser) -> None:
    """--vq-model."""
    parser.add_argument(
        "--vq-model",
        default=str(bundled.MINI_VISION),
        metavar="PATH",
        help="vision tokenizer: a folder or a hub id such as BAAI/Emu3-VisionTokenizer "
        "(default: emu3-mini's)",
    )


def add_tile_option(parser: argparse.ArgumentParser) -> None:
    """--tile."""
    parser.add_argument(
        "--tile",
        type=positive_int,
        metavar="PIXELS",
        help="code pictures and frames of longer sides in overlapping tiles of this side: less "
        "memory, slightly other results (default: whole)",
    )


def add_animation_option(parser: argparse.ArgumentParser) -> None:
    """--animation."""
    parser.add_argument(
        "--animation",
        choices=("gif", "mp4", "none"),
        default="gif",
        help="also write a clip's frames as one file (default: %(default)s)",
    )


def add_guidance_option(parser, default: float | None = None) -> None:
    """--guidance, to a parser or group."""
    shown = "the checkpoint's" if default is None else "%(default)s"
    parser.add_argument(
        "--guidance",
        type=non_negative_float,
        default=default,
        metavar="G",
        help="how strongly the prompt steers; 1 is without guidance, at half the cost "
        f"(default: {shown})",
    )


def add_size_options(group: argparse._ArgumentGroup) -> None:
    """The options of `pipeline.PictureSize`."""
    group.add_argument(
        "--ratio",
        action="append",
        metavar="W:H",
        help="width to height, one for all prompts or one a prompt (default: 1:1)",
    )
    group.add_argument(
        "--image-area",
        type=positive_int,
        metavar="PIXELS",
        help="size of the picture in pixels, for --ratio (default: the checkpoint's)",
    )
    for side in ("height", "width"):
        group.add_argument(
            f"--{side}",
            type=positive_int,
            metavar="PIXELS",
            help=f"{side} of the picture instead of ratio and area, snapped to the grid of codes",
        )


def add_sampling_options(parser: argparse.ArgumentParser, greedy: bool) -> None:
    """--temperature, --top-k, --top-p and --seed; `greedy` if the command does not sample."""
    group = parser.add_argument_group("sampling")
    silent = "0: the likeliest token" if greedy else "the checkpoint's"
    group.add_argument(
        "--temperature",
        type=non_negative_float,
        metavar="T",
        default=0.0 if greedy else None,
        help=f"0 takes the likeliest token, higher is more varied (default: {silent})",
    )
    group.add_argument(
        "--top-k",
        type=positive_int,
        metavar="K",
        help="sample among the K likeliest tokens (default: the checkpoint's)",
    )
    group.add_argument(
        "--top-p",
        type=probability,
        metavar="P",
        help="sample among the likeliest tokens that hold this much probability "
        "(default: the checkpoint's)",
    )
    group.add_argument(
        "--seed",
        type=non_negative_int,
        default=0,
        metavar="N",
        help="the same seed gives the same output (default: %(default)s)",
    )


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """--decoding, --window, --coupling and --zipar-window."""
    group = parser.add_argument_group("decoding of pictures (docs/decoding.md)")
    group.add_argument(
        "--decoding",
        metavar="NAME",
        help="plain makes one token a run of the network; jacobi several, with the same "
        "distribution; zipar several, LOSSY (default: the checkpoint's, else plain)",
    )
    group.add_argument(
        "--window",
        type=positive_int,
        metavar="L",
        help="places a run takes, jacobi (default: 16, or the picture's tokens)",
    )
    group.add_argument(
        "--coupling",
        metavar="NAME",
        help="how jacobi redraws: none, maximal, gumbel, or fixed for plain's very tokens "
        "(default: maximal)",
    )
    group.add_argument(
        "--zipar-window",
        type=positive_int,
        metavar="S",
        help="tokens a row is ahead of the next, zipar; lossy below the row's width (default: 16)",
    )


def add_device_options(parser: argparse.ArgumentParser, attention: bool = True) -> None:
    """The options of `Device`; without `attention` all but --attn-implementation."""
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
        "--threads", type=positive_int, metavar="N", help="CPU threads (default: all cores)"
    )
    if attention:
        group.add_argument(
            "--attn-implementation",
            metavar="NAME",
            help="eager, sdpa or flash_attention_2 (default: eager on CPU, flash on Ascend)",
        )
    else:
        parser.set_defaults(attn_implementation=None)


def notice_if_lossy(scheme: "Scheme") -> None:
    """Say so if pictures come out otherwise than by plain decoding."""
    from emu3.runtime import notice

    if scheme.lossy:
        notice(f"--decoding {scheme.label}: rows start before the one above is whole")
