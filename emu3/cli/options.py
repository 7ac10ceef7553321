"""Options that several commands share."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emu3 import bundled
from emu3.cli.shell import importing
from emu3.names import ATTENTION, DEVICES, DTYPES, MODES, WEIGHTS, check_name
from emu3.options import non_negative_int, option, path_text, positive_int, seed_number, whole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from emu3.mllm.defaults import CheckpointDefaults
    from emu3.mllm.generation.schemes import Scheme
    from emu3.pipeline import DrawSettings, PictureSize


@dataclass(frozen=True)
class Device:
    """Where and how to compute.

    Raises:
        InputError: a word that nobody knows.
    """

    device: str = option("auto, CPU or Ascend (default: Ascend where there is one)", "auto")
    device_id: int | None = option(
        "index of the Ascend card among ASCEND_RT_VISIBLE_DEVICES (default: $DEVICE_ID or 0)",
        None,
        non_negative_int,
    )
    mode: str = option(
        "graph compiles everything, pynative nothing, auto only the decoding step", "auto"
    )
    dtype: str | None = option(
        "float32, float16 or bfloat16 (default: float32 on CPU, else bfloat16)"
    )
    threads: int | None = option("CPU threads (default: all cores)", None, whole(1, 1024))
    attn_implementation: str | None = option(
        "eager, sdpa or flash_attention_2 (default: eager on CPU, flash on Ascend)"
    )

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
        with importing():
            from emu3 import runtime

        mode = "pynative" if self.mode == "auto" else self.mode
        runtime.setup(self.device, self.device_id, mode, self.threads)
        runtime.keep_first_graph()
        runtime.resolve_dtype(self.dtype)

    @property
    def jit(self) -> bool | None:
        """Whether the decoding step is compiled; None for the model's choice."""
        return {"graph": True, "pynative": False}.get(self.mode)


def language_model() -> Any:
    """--model."""
    return option(
        "language model: a folder or a hub id such as BAAI/Emu3-Gen (default: emu3-mini)",
        str(bundled.MINI_LANGUAGE),
        path_text,
        metavar="PATH",
    )


def vision_model() -> Any:
    """--vq-model."""
    return option(
        "vision tokenizer: a folder or a hub id such as BAAI/Emu3-VisionTokenizer "
        "(default: emu3-mini's)",
        str(bundled.MINI_VISION),
        path_text,
        metavar="PATH",
    )


def weights() -> Any:
    """--weights."""
    return option(
        "what the language model's matrices are stored as on CPU, which computes in float32: "
        "float32, bfloat16, or int8, approximate (default: the first that fits into memory); on "
        "Ascend int8 for those of its layers",
        None,
        choices=WEIGHTS,
    )


def seed() -> Any:
    """--seed."""
    return option("the same seed gives the same output", 0, seed_number)


def tile() -> Any:
    """--tile."""
    return option(
        "code pictures and frames of longer sides in overlapping tiles of this side: less memory, "
        "slightly other results (default: whole)",
        None,
        positive_int,
        metavar="PIXELS",
    )


def animation() -> Any:
    """--animation."""
    kinds = ("gif", "mp4", "none")
    return option("also write a clip's frames as one file", "gif", choices=kinds)


def require_animation(kind: str) -> None:
    """Refuse an animation that cannot be written here, before anything is made.

    Raises:
        InputError: mp4 without PyAV.
    """
    if kind == "mp4":
        from emu3.videos import pyav

        pyav("writing mp4")


def notice_if_snapped(size: "PictureSize", factor: int) -> None:
    """Say so if height and width are no whole number of codes of `factor` pixels a side."""
    from emu3.runtime import notice

    if said := size.snapped_notice(factor):
        notice(said)


def public_name(place: str) -> str:
    """A model or file as a picture's settings name it: as it was asked for, without the folders
    above it where they may tell who asked, as in /home/NAME/x and ../NAME/x."""
    if place in (str(bundled.MINI_LANGUAGE), str(bundled.MINI_VISION)):
        return f"{bundled.MINI}/{Path(place).name}"
    outside = os.path.isabs(place) or ".." in Path(place).parts
    return Path(place).name if outside else place


def model_name(place: str) -> str:
    """What clients of a server call its model."""
    return bundled.MINI if place == str(bundled.MINI_LANGUAGE) else public_name(place)


def notice_if_lossy(scheme: "Scheme") -> None:
    """Say so if pictures come out otherwise than by plain decoding."""
    from emu3.runtime import notice

    if scheme.lossy:
        notice(f"--decoding {scheme.label}: rows start before the one above is whole")


def notice_of_clips(checkpoint: "CheckpointDefaults") -> None:
    """Say so if a checkpoint says nothing of clips, as the released ones, which never saw any."""
    from emu3.runtime import notice

    if checkpoint.video_prefix_template is None:
        notice(
            "this checkpoint states no video_prefix_template, the released ones never saw clips: "
            "ours, rows*columns*frames*rate, is used (docs/video.md)"
        )


def notice_of_words(prompts: "Iterable[str]", checkpoint: "CheckpointDefaults") -> None:
    """Name the words of prompts that a checkpoint's captions never held, where it states them."""
    from emu3.mllm.caption_words import SHOWN, unknown_words
    from emu3.runtime import notice

    if checkpoint.caption_words is None:
        return
    if unknown := unknown_words(prompts, checkpoint.caption_words):
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        notice(
            f"the captions of this checkpoint never held {', '.join(unknown[:SHOWN])}{more}: what "
            "such words ask for will not show"
        )


def notice_if_far(asked: "DrawSettings", checkpoint: "CheckpointDefaults") -> None:
    """Say so if settings are so far from the checkpoint's own that pictures may be spoilt."""
    from emu3.runtime import notice

    guided = asked.guidance if asked.guidance != 1 else None  # 1 is without guidance
    for flag, value, own, least, most in (
        ("--guidance", guided, checkpoint.guidance_scale, 1 / 3, 3),
        ("--temperature", asked.temperature, checkpoint.temperature, 0.5, 1.5),
    ):
        if value is not None and own and not least <= value / own <= most:
            notice(
                f"{flag} {value:g} is far from the checkpoint's own {own:g}: pictures may be spoilt"
            )
