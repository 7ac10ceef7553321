"""Ways of decoding pictures and clips: Plain, Jacobi (exact), ZipAR (lossy), options and parts.

Each names its step and its decoder by file and class; they are imported when a picture is made,
for to choose a scheme needs none of them. A new scheme is a class here, a step and a decoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

from emu3.errors import InputError, shown

if TYPE_CHECKING:
    from emu3.mllm.grammar import Grid

WINDOW, START_AFTER = 16, 16
WIDEST = 4096  # of either: as long as rows get
COUPLINGS = ("none", "maximal", "gumbel", "fixed")
FIELDS = ("decoding", "window", "coupling", "zipar_window")


@dataclass(frozen=True)
class Plain:
    """One token of each sequence a run of the network."""

    name: ClassVar[str] = "plain"
    options: ClassVar[tuple[str, ...]] = ()
    step: ClassVar[str] = "step.Step"
    decoder: ClassVar[str] = "decoder.Decoder"
    lossy: ClassVar[bool] = False  # whether pictures have another distribution than plain's
    consecutive: ClassVar[bool] = True  # whether a run's places of a sequence stand side by side

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> "Plain":
        """The scheme of generation settings by name."""
        return cls()

    @property
    def label(self) -> str:
        """The scheme and its options in words."""
        return self.name

    def places(self, height: int, width: int, frames: int = 1) -> int:
        """Places that one run takes of so many latent frames of height x width codes."""
        return 1

    def spare_slots(self, places: int) -> int:
        """Slots of the cache beyond the last token's that runs of so many places need."""
        return 0


@dataclass(frozen=True)
class Jacobi:
    """`window` places of each sequence a run; drafts that pass their test stand (`jacobi`)."""

    window: int = WINDOW
    coupling: str = "maximal"

    name: ClassVar[str] = "jacobi"
    options: ClassVar[tuple[str, ...]] = ("window", "coupling")
    step: ClassVar[str] = "jacobi.JacobiStep"
    decoder: ClassVar[str] = "jacobi_decoder.JacobiDecoder"
    lossy: ClassVar[bool] = False
    consecutive: ClassVar[bool] = True

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> "Jacobi":
        """The scheme of generation settings by name.

        Raises:
            InputError: a window or a coupling that there is not.
        """
        coupling = _choice("coupling", fields.get("coupling"), COUPLINGS, cls.coupling)
        return cls(_whole("window", fields.get("window"), 2, cls.window), coupling)

    @property
    def label(self) -> str:
        """The scheme and its options in words."""
        return f"{self.name}, window {self.window}, coupling {self.coupling}"

    def places(self, height: int, width: int, frames: int = 1) -> int:
        """Places that one run takes of so many latent frames of height x width codes."""
        return self.window

    def spare_slots(self, places: int) -> int:
        """A window may begin at the last token, and writes one slot behind itself."""
        return places + 1


@dataclass(frozen=True)
class ZipAR:
    """A row starts when the one above it holds `start_after` tokens (`zipar`)."""

    start_after: int = START_AFTER

    name: ClassVar[str] = "zipar"
    options: ClassVar[tuple[str, ...]] = ("zipar_window",)
    step: ClassVar[str] = "zipar.ZipStep"
    decoder: ClassVar[str] = "zipar.ZipDecoder"
    lossy: ClassVar[bool] = True
    consecutive: ClassVar[bool] = False

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> "ZipAR":
        """The scheme of generation settings by name.

        Raises:
            InputError: a number of tokens that cannot be.
        """
        return cls(_whole("zipar_window", fields.get("zipar_window"), 1, cls.start_after))

    @property
    def label(self) -> str:
        """The scheme and its options in words."""
        return f"{self.name}, window {self.start_after} (lossy)"

    def places(self, height: int, width: int, frames: int = 1) -> int:
        """Rows that are under way at one time, of frames of height x width codes: at most so many,
        and exactly of a picture."""
        step, ends = min(self.start_after, width), 1 + (frames > 1)
        runs = width + ends + ends * (step < width)  # of a row, see zipar.make_schedule
        return min(frames * height, -(-runs // step))

    def spare_slots(self, places: int) -> int:
        """Idle places read and write two slots of their own; the rest is room for the rows."""
        return places + 1


Scheme = Plain | Jacobi | ZipAR
SCHEMES: dict[str, type[Scheme]] = {scheme.name: scheme for scheme in (Plain, Jacobi, ZipAR)}
OWNERS = {option: scheme.name for scheme in SCHEMES.values() for option in scheme.options}


def part(name: str) -> type:
    """The class that a scheme names as its step or its decoder."""
    module, _, kind = name.partition(".")
    return getattr(import_module(f"emu3.mllm.generation.{module}"), kind)


def merged(stated: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of FIELDS as asked for, else as stated; None where neither speaks.

    Asking for another scheme than the stated one leaves out the options stated for that one.
    """
    before = stated.get("decoding") or Plain.name
    scheme = asked.get("decoding") or before
    fields = {}
    for name in FIELDS:
        fields[name] = asked.get(name)
        if fields[name] is None and (scheme == before or OWNERS.get(name) == scheme):
            fields[name] = stated.get(name)
    return fields | {"decoding": scheme}


def read_scheme(fields: Mapping[str, Any]) -> Scheme:
    """The scheme of settings `decoding`, `window`, `coupling` and `zipar_window`.

    Raises:
        InputError: an unknown name, a number out of range, or an option of another scheme.
    """
    name = _choice("decoding", fields.get("decoding"), tuple(SCHEMES), Plain.name)
    for option, owner in OWNERS.items():
        value = fields.get(option)
        if value is not None and owner != name:
            raise InputError(
                f"{option} = {value!r} belongs to decoding = {owner!r}, not {name!r}; change "
                f"{_flag(option)} or --decoding"
            )
    return SCHEMES[name].read(fields)


def fitted(scheme: Scheme, grid: "Grid | None", callers: list[str]) -> Scheme:
    """The scheme for these pictures.

    Args:
        grid: the Grid of the pictures, None for text.
        callers: names of what wants to see the scores of every token.

    Raises:
        InputError: it is text, somebody wants the scores, or the device cannot do it.
    """
    if isinstance(scheme, Plain):
        return scheme
    start = f"decoding = {scheme.name!r}"
    if grid is None:
        raise InputError(
            f"{start} is for pictures, whose grid is known; allowed for text: 'plain'; change "
            "--decoding or give image_size or video_size"
        )
    if callers:
        raise InputError(
            f"{start} cannot call {', '.join(callers)} for every token; allowed with it: "
            "temperature, top_k, top_p and guidance; change --decoding or leave it out"
        )
    if isinstance(scheme, Jacobi):
        _check_coupling(scheme.coupling)
    return scheme


def _check_coupling(coupling: str) -> None:
    """Refuse what the device cannot do."""
    from emu3 import runtime

    if coupling == "gumbel" and runtime.on_ascend():
        raise InputError(
            "coupling = 'gumbel' needs 32-bit shifts and overflow, which Ascend's operators do not "
            "promise; allowed there: none, maximal, fixed; change --coupling"
        )


def _choice(name: str, value: Any, allowed: tuple[str, ...], default: str) -> str:
    value = default if value is None else value
    if value not in allowed:
        names = ", ".join(allowed)
        raise InputError(f"{name} = {value!r}; allowed: {names}; change {_flag(name)}")
    return value


def _whole(name: str, value: Any, least: int, default: int) -> int:
    value = default if value is None else value
    number = isinstance(value, Integral) and not isinstance(value, bool)
    if not number or not least <= value <= WIDEST:
        raise InputError(
            f"{name} = {shown(value)}; allowed: {least}..{WIDEST}; change {_flag(name)}"
        )
    return int(value)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
