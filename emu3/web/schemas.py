"""What clients send, in the shape of the common interface; fields of ours stand beside theirs.

Fields that we do not know are refused by name, as an option is: nothing is silently ignored.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile

from emu3.errors import InputError, shown
from emu3.mllm import parts
from emu3.mllm.prompts import check_turns
from emu3.options import LONGEST_TEXT
from emu3.pipeline import AskSettings, DrawSettings, PictureSize
from emu3.web.allowance import MOST_BEST_OF, MOST_PICTURES

if TYPE_CHECKING:
    from PIL import Image

MOST_FIELDS = 32
IMAGE_FIELDS = ("image", "image[]")
SYSTEM = ("system", "developer")  # who opens a conversation, by older and newer clients
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
    """POST /v1/images/generations, and the fields of a form for /v1/images/edits."""

    prompt: Text
    n: int = Field(1, ge=1, le=MOST_PICTURES)
    size: str = "auto"
    response_format: Literal["b64_json"] = "b64_json"
    negative_prompt: Text | None = None
    guidance: float | None = Field(None, ge=0, le=1000)
    best_of: int | None = Field(None, ge=1, le=MOST_BEST_OF)
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

    def grids(self, image_area: int, factor: int, positions: int) -> list[tuple[int, int]]:
        """Latent (h, w) of each picture of a model with so many positions.

        Raises:
            InputError: a size that is none, or too large for the model whatever the prompt.
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
        sizes = PictureSize(height=height, width=width).grids(self.n, image_area, factor)
        rows, columns = sizes[0]
        if rows * columns > positions:
            raise InputError(
                f"size {self.size} is {rows * columns} codes; allowed: up to {positions}, the "
                "model's positions, the prompt's included; change size"
            )
        return sizes


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

    def conversation(
        self, read: "Callable[[bytes, str], Image.Image]"
    ) -> tuple[str | None, list[parts.Message]]:
        """What the system says, if it does, and the turns; `read` makes named bytes a picture.

        Raises:
            InputError: turns out of order, a system message that is none, or no picture.
        """
        system = self.messages[0].system
        rest = self.messages if system is None else self.messages[1:]
        turns = [turn.as_message(read) for turn in rest]
        check_turns(turns, "user")
        return system, turns


class Message(BaseModel):
    """One turn: who speaks, and a text or parts. Answers of ours hold the last fields."""

    model_config = ConfigDict(extra="forbid", strict=True)
    role: Literal["system", "developer", "user", "assistant"]
    content: "Text | list[Part]"
    name: str | None = None
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None

    @property
    def system(self) -> str | None:
        """The text of a system message; None for other ones."""
        if self.role not in SYSTEM:
            return None
        if isinstance(self.content, str):
            return self.content
        if any(part.type != "text" for part in self.content):
            raise InputError(f"a picture in a {self.role} message; allowed: text; move it")
        return " ".join(part.text or "" for part in self.content)

    def as_message(self, read: "Callable[[bytes, str], Image.Image]") -> parts.Message:
        """The turn; pictures that end it go before its text, where models expect them.

        Raises:
            InputError: a system message, which stands first alone, or no picture.
        """
        if self.role in SYSTEM:
            raise InputError(f"a {self.role} message in the middle; allowed: as the first one")
        if isinstance(self.content, str):
            return parts.Message(self.role, (parts.Text(self.content),))
        said: list[parts.Given] = []
        for part in self.content:
            if part.type == "image_url":
                if part.image_url is None:
                    raise InputError("an image_url part without image_url; give its picture")
                said.append(parts.Image(read(part.image_url.data, part.type)))
            elif said and isinstance(said[-1], parts.Text):
                said[-1] = parts.Text(f"{said[-1].text} {part.text or ''}")
            else:
                said.append(parts.Text(part.text or ""))
        if said and sum(isinstance(part, parts.Text) for part in said) == 1:
            said.sort(key=lambda part: isinstance(part, parts.Text))
        return parts.Message(self.role, tuple(said))


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


def read_form(fields: Iterable[tuple[str, str | UploadFile]]) -> tuple[ImageBody, list[UploadFile]]:
    """The fields and the pictures of a form.

    Raises:
        InputError: no picture, a file or field that is none of ours, or one given twice.
        pydantic.ValidationError: a value that cannot be.
    """
    files, values = [], {}
    for name, value in fields:
        if isinstance(value, str):
            if name in values:
                raise InputError(f"{shown(name)} is given twice; allowed: once")
            values[name] = value
        elif name in IMAGE_FIELDS:
            files.append(value)
        else:
            raise InputError(f"file {shown(name)}; allowed: {', '.join(IMAGE_FIELDS)}")
    if not files:
        raise InputError("image: no picture; allowed: one or several files; give image")
    return ImageBody.model_validate_strings(values), files


def from_base64(text: str) -> bytes:
    """The bytes that base64 spells.

    Raises:
        InputError: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError("the picture is not valid base64; encode its file again") from None
