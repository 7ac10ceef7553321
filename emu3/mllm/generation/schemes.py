"""Ways of decoding pictures and their options: plain, Jacobi (exact) and ZipAR (lossy)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from emu3.errors import InputError
from emu3.mllm.generation.jacobi import COUPLINGS

SCHEMES = ("plain", "jacobi", "zipar")
WINDOW, COUPLING, ZIPAR_WINDOW = 16, "maximal", 16
# Options and the scheme they belong to.
OPTIONS = {"window": "jacobi", "coupling": "jacobi", "zipar_window": "zipar"}
FIELDS = ("decoding", *OPTIONS)


@dataclass(frozen=True)
class Decoding:
    """How a picture is decoded; what belongs to another scheme is idle.

    `window` places of a row are taken per run, drafts coupled as `coupling` says (jacobi). A row
    starts when the one above it holds `zipar_window` tokens (zipar).
    """

    scheme: str = "plain"
    window: int = 1
    coupling: str = "none"
    zipar_window: int = 0

    @property
    def lossy(self) -> bool:
        """Whether pictures have another distribution than plain decoding's."""
        return self.scheme == "zipar"

    @property
    def label(self) -> str:
        """The scheme and its options in words."""
        words = {
            "plain": "plain",
            "jacobi": f"jacobi, window {self.window}, coupling {self.coupling}",
            "zipar": f"zipar, window {self.zipar_window} (lossy)",
        }
        return words[self.scheme]


def merged(stated: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as asked for, else as stated; None where neither speaks.

    Asking for another scheme than the stated one leaves out the options stated for that one.
    """
    before = stated.get("decoding") or "plain"
    scheme = asked.get("decoding") or before
    fields = {}
    for name in FIELDS:
        fields[name] = asked.get(name)
        if fields[name] is None and (scheme == before or OPTIONS.get(name) == scheme):
            fields[name] = stated.get(name)
    return fields | {"decoding": scheme}


def read_decoding(config) -> Decoding:
    """The fields `decoding`, `window`, `coupling` and `zipar_window` of a config or namespace.

    Raises:
        InputError: an unknown name, a number out of range, or an option of another scheme.
    """
    scheme = _choice(config, "decoding", SCHEMES, "plain")
    for name, owner in OPTIONS.items():
        value = getattr(config, name, None)
        if value is not None and owner != scheme:
            raise InputError(
                f"{name} = {value!r} belongs to decoding = {owner!r}, not {scheme!r}; change "
                f"{_flag(name)} or --decoding"
            )
    if scheme == "jacobi":
        coupling = _choice(config, "coupling", COUPLINGS, COUPLING)
        return Decoding(scheme, _whole(config, "window", 2, WINDOW), coupling)
    if scheme == "zipar":
        return Decoding(scheme, zipar_window=_whole(config, "zipar_window", 1, ZIPAR_WINDOW))
    return Decoding()


def fitted(decoding: Decoding, grid, callers: list[str]) -> Decoding:
    """The decoding for these pictures: the default window shrinks to a picture of fewer tokens.

    Args:
        grid: the Grid of the pictures, None for text.
        callers: names of what wants to see the scores of every token.

    Raises:
        InputError: it is text, somebody wants the scores, or the window exceeds the picture.
    """
    if decoding.scheme == "plain":
        return decoding
    start = f"decoding = {decoding.scheme!r}"
    if grid is None:
        raise InputError(
            f"{start} is for pictures, whose grid is known; allowed for text: 'plain'; change "
            "--decoding or give image_size"
        )
    if callers:
        raise InputError(
            f"{start} cannot call {', '.join(callers)} for every token; allowed with it: "
            "temperature, top_k, top_p and guidance; change --decoding or leave it out"
        )
    tokens = grid.forced.shape[1]
    if decoding.window == WINDOW > tokens:
        return replace(decoding, window=tokens)
    if decoding.window > tokens:
        raise InputError(
            f"window = {decoding.window}; allowed: 2..{tokens}, the tokens of the picture; "
            "change --window"
        )
    return decoding


def _choice(config, name: str, allowed: tuple[str, ...], default: str) -> str:
    value = getattr(config, name, None)
    value = default if value is None else value
    if value not in allowed:
        names = ", ".join(allowed)
        raise InputError(f"{name} = {value!r}; allowed: {names}; change {_flag(name)}")
    return value


def _whole(config, name: str, least: int, default: int) -> int:
    value = getattr(config, name, None)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(
            f"{name} = {value!r}; allowed: whole numbers from {least}; change {_flag(name)}"
        )
    return int(value)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
