"""What clients send, in the shape of the common interface; fields of ours stand beside theirs.

Fields that we do not know are refused by name, as an option is: nothing is silently ignored.
"""

import base64
import binascii
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from emu3.errors import InputError, shown
from emu3.options import LONGEST_TEXT
from emu3.pipeline import AskSettings, DrawSettings, PictureSize

MOST_PICTURES = 16
MOST_SEED = 2**63 - 1
DATA_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,(.+)", re.DOTALL)
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]


class Body(BaseModel):
    """A JSON object all of whose fields are known."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str | None = None
    user: str | None = None  # clients' own name for who asks; not kept
    seed: int = Field(0, ge=0, le=MOST_SEED)
    temperature: float | None = Field(None, ge=0, le=100)
    top_k: int | None = Field(None, ge=1)
    top_p: float | None = Field(None, gt=0, le=1)


class ImageBody(Body):
    """POST /v1/images/generations."""

    prompt: Text
    n: int = Field(1, ge=1, le=MOST_PICTURES)
    size: str = "auto"
    response_format: Literal["b64_json"] = "b64_json"
    negative_prompt: Text | None = None
    guidance: float | None = Field(None, ge=0, le=1000)
    decoding: str | None = None
    window: int | None = Field(None, ge=1)
    coupling: str | None = None
    zipar_window: int | None = Field(None, ge=1)

    @property
    def settings(self) -> DrawSettings:
        """The settings that were given.

        Raises:
            InputError: a decoding that there is not.
        """
        names = DrawSettings.__dataclass_fields__.keys() & set(type(self).model_fields)
        return DrawSettings(**{name: getattr(self, name) for name in names})

    def grids(self, image_area: int, factor: int) -> list[tuple[int, int]]:
        """Latent (h, w) of each picture.

        Raises:
            InputError: a size that is none.
        """
        if self.size == "auto":
            return PictureSize().grids(self.n, image_area, factor)
        found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", self.size)
        if not found:
            raise InputError(
                f"size {shown(self.size)}; allowed: auto, or width and height such as 256x256; "
                "change size"
            )
        width, height = map(int, found.groups())
        return PictureSize(height=height, width=width).grids(self.n, image_area, factor)


class ChatBody(Body):
    """POST /v1/chat/completions."""

    messages: list["Message"] = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    n: Literal[1] = 1

    @property
    def settings(self) -> AskSettings:
        """The settings that were given."""
        longest = self.max_completion_tokens or self.max_tokens or AskSettings.max_new_tokens
        return AskSettings(self.temperature or 0.0, self.top_k, self.top_p, longest)


class Message(BaseModel):
    """One turn: who speaks, and a text or parts."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["user", "assistant"]
    content: "Text | list[Part]"
    name: str | None = None
    refusal: None = None


class Part(BaseModel):
    """A text, or a picture as a data URL."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["text", "image_url"]
    text: Text | None = None
    image_url: "ImageUrl | None" = None


class ImageUrl(BaseModel):
    """Where a picture stands: in the URL itself."""

    model_config = ConfigDict(extra="forbid", strict=True)
    url: str
    detail: Literal["auto", "low", "high"] = "auto"

    @property
    def data(self) -> bytes:
        """The bytes of the picture.

        Raises:
            InputError: an address to fetch it from, or no base64.
        """
        found = DATA_URL.fullmatch(self.url)
        if not found:
            raise InputError(
                f"image_url {shown(self.url)}; allowed: data:image/png;base64,... ; send the "
                "picture itself, this server fetches nothing"
            )
        return from_base64(found[1])


def from_base64(text: str) -> bytes:
    """The bytes that base64 spells.

    Raises:
        InputError: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError("the picture is not valid base64; encode its file again") from None
