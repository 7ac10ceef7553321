"""Whether a command's work fits into memory, asked before it is begun.

What is certain to be needed counts, so work that is refused could not have ended well.
Legend: h w latent rows and columns.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from emu3.errors import InputError

if TYPE_CHECKING:
    from emu3.estimate import Work
    from emu3.mllm import Emu3Config
    from emu3.tokenizer import Emu3VisionVQConfig


def require_room_for_pixels(
    config: "Emu3VisionVQConfig",
    grid: tuple[int, int],
    dtype: str | None,
    tile: int | None = None,
    together: int = 1,
    remedy: str = "a smaller picture, --tile",
) -> None:
    """Refuse to code `together` pictures or latent frames of (h, w), in tiles of so many pixels.

    Raises:
        InputError: gives the estimate, and `remedy` as what is allowed.
    """
    from emu3 import runtime
    from emu3.estimate import gib, vision_bytes

    h, w = grid
    if tile is not None:
        most = max(1, tile // config.spatial_scale_factor)
        h, w = min(h, most), min(w, most)
    needed = together * vision_bytes(config, (h, w), width_of(dtype))
    available = runtime.available_memory_bytes()
    if available is not None and needed > available:
        raise InputError(
            f"pictures of {grid[0]}x{grid[1]} codes need about {gib(needed)} of memory, "
            f"{gib(available)} are free; allowed: {remedy}"
        )


def require_room_for_answers(
    config: "Emu3Config",
    vision: "Emu3VisionVQConfig",
    prompts: Sequence[int],
    dtype: str | None,
    weights: str | None = None,
) -> str | None:
    """Refuse to answer prompts of so many tokens together; the form for the model's matrices.

    Raises:
        InputError: gives the estimate and the largest batch that fits.
    """
    from emu3.estimate import Work

    work = Work(
        sequences=len(prompts),
        guided=False,
        prompt=max(prompts),
        grid=None,
        answer=1,  # how long answers become, nobody knows
        width=width_of(dtype),
    )
    return chosen_weights(config, vision, work, weights, "--image or --model")


def chosen_weights(
    config: "Emu3Config",
    vision: "Emu3VisionVQConfig",
    work: "Work",
    asked: str | None,
    flags: str = "--image-area or --model",
) -> str | None:
    """The form of emu3.nn.forms for the language model's matrices, which is said where it is not
    float32; that on Ascend stands for the dtype.

    Raises:
        InputError: `work` does not fit into memory, or not with what was asked for.
    """
    from emu3 import runtime
    from emu3.estimate import check_fits, fitting_weights
    from emu3.weights import ascend_form

    available = runtime.available_memory_bytes()
    if runtime.device_target() != "CPU":
        form, computes = ascend_form(config.quantised, asked), "16 bits compute"
        check_fits(config, vision, replace(work, **stored_as(form)), available, flags)
    else:
        form = fitting_weights(config, vision, work, available, asked, flags)
        computes = "float32 computes"
    if form != "float32":
        approximate = ", which is approximate" if form == "int8" else ""
        runtime.notice(f"weights are kept in {form}{approximate}; {computes}")
    return form


def stored_as(form: str) -> dict[str, Any]:
    """What `Work` is told of weights in a form: on Ascend "float32" stands for the dtype, and
    embedding and head keep it."""
    from emu3 import runtime

    if runtime.device_target() == "CPU":
        return {"weights": form}
    return {"weights": None if form == "float32" else form, "layers_only": True}


def width_of(dtype: str | None) -> int:
    """Bytes of a number in the dtype that is computed in."""
    from emu3 import runtime
    from emu3.estimate import WIDTHS

    return WIDTHS[str(runtime.resolve_dtype(dtype)).lower()]
