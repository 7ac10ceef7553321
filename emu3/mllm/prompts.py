"""How a prompt is put together, once: for inference and for training samples.

    prompt         bos, then parts as they are; a picture or clip to be made has its head at the end
    conversation   bos, chat template around each message of the user, answers and their eos

    generation     prompt of a text and a picture to be made
    understanding  the conversation's first turn, about a picture
    follow-up      the template's user part around a later turn, after an answer and its eos

h, w are latent rows and columns, t latent frames. Text that stands side by side is tokenised
together; a picture, a clip and a special token separate it.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from emu3.errors import InputError, shown
from emu3.mllm.parts import (
    DEFAULT_FPS,
    ROLES,
    Coded,
    Given,
    Message,
    Open,
    Part,
    Text,
    read_parts,
    whole_size,
)
from emu3.mllm.tokenization_emu3 import Emu3Tokenizer
from emu3.mllm.vocabulary import VISUAL_TEMPLATE, Vocabulary

if TYPE_CHECKING:
    from emu3.mllm.defaults import CheckpointDefaults

CHAT_TEMPLATES = {
    "chat": "You are a helpful assistant. USER: {image_prompt}{text_prompt}. ASSISTANT:",
    "stage1": "{image_prompt}{text_prompt}",
}
PREFIX_TEMPLATE = "{H}*{W}"
VIDEO_PREFIX_TEMPLATE = "{H}*{W}*{T}*{F}"  # ours: the released one is not public
IMAGE_FIELD, TEXT_FIELD = "{image_prompt}", "{text_prompt}"
Pieces = list[str | list[int]]  # texts, and ids that part them


class PromptBuilder:
    """Prompts as ids, from texts and VQ codes; needs the tokenizer only.

    Args:
        tokenizer: an Emu3Tokenizer.
        chat_template: "chat", "stage1" or a text with {image_prompt} and {text_prompt}; by default
            the tokenizer's own chat_template, else "chat".
        prefix_template: the size text of a picture, with {H} and {W}.
        video_prefix_template: of a clip, with {H}, {W}, {T} and, if it says them, {F}: latent rows,
            columns and frames, and frames a second; by default `VIDEO_PREFIX_TEMPLATE`.
        visual_template: the spelling of a visual token, with {token_id}.
        allow_special_tokens: a special token written out in a user's text becomes its id, as in
            the reference; by default it is ordinary text.

    Raises:
        InputError: a template lacks a field or has another one, or the tokenizer lacks a token.
    """

    def __init__(
        self,
        tokenizer: Emu3Tokenizer,
        chat_template: str | None = None,
        prefix_template: str = PREFIX_TEMPLATE,
        visual_template: str = VISUAL_TEMPLATE,
        allow_special_tokens: bool = False,
        video_prefix_template: str | None = None,
    ):
        template = chat_template or tokenizer.chat_template or "chat"
        self.tokenizer = tokenizer
        self.vocabulary = Vocabulary.from_tokenizer(tokenizer, visual_template)
        known = isinstance(template, str) and template in CHAT_TEMPLATES
        self.chat_template = CHAT_TEMPLATES[template] if known else template
        self.prefix_template = prefix_template
        self.video_prefix_template = video_prefix_template or VIDEO_PREFIX_TEMPLATE
        self.allow_special_tokens = allow_special_tokens
        _check_fields("chat_template", self.chat_template, (IMAGE_FIELD, TEXT_FIELD))
        _check_fields("prefix_template", prefix_template, ("{H}", "{W}"), ())
        video = self.video_prefix_template
        _check_fields("video_prefix_template", video, ("{H}", "{W}", "{T}"), ("{F}",))

    @classmethod
    def stated(
        cls,
        tokenizer: Emu3Tokenizer,
        checkpoint: "CheckpointDefaults",
        chat_template: str | None = None,
    ) -> "PromptBuilder":
        """The builder with the templates a checkpoint states; `chat_template` replaces its own."""
        return cls(
            tokenizer,
            chat_template or checkpoint.chat_template,
            video_prefix_template=checkpoint.video_prefix_template,
        )

    def size_ids(self, h: int, w: int, t: int = 1, fps: float = DEFAULT_FPS) -> list[int]:
        """Ids of the size text of a picture of h x w codes, or of a clip of t such frames."""
        text = self.prefix_template.format(H=h, W=w)
        if t > 1:
            text = self.video_prefix_template.format(H=h, W=w, T=t, F=f"{fps:g}")
        return self.tokenizer.encode_ordinary(text)

    def prompt(self, parts: "Sequence[Part] | Part | str") -> list[int]:
        """bos and the parts in order; what is to be made may stand at the end.

        Raises:
            InputError: something that is no part here, or codes outside the vocabulary.
        """
        parts = read_parts(parts)
        if any(isinstance(part, Open) for part in parts[:-1]):
            raise InputError("an Open stands before the end; allowed: as the last part alone")
        return self._joined([[self.vocabulary.bos], *self._pieces(parts)])

    def conversation(
        self, messages: Sequence[Message], answer: Open | None = None, opening: str | None = None
    ) -> list[int]:
        """What a conversation whose last message is the user's goes on from.

        With `answer` the assistant's answer is that picture or clip; `opening` stands in place of
        the chat template's own, as what a system says.

        Raises:
            InputError: messages that do not take turns, or end with the assistant's; an opening for
                a template without one.
        """
        check_turns(messages, "user")
        ids = self.user_turn(messages[0].parts, True, opening)
        for message in messages[1:]:
            user = message.role == "user"
            ids += self.user_turn(message.parts, False) if user else self.answer(message.parts)
        return ids if answer is None else [*ids, *self.ids_of([answer])]

    def user_turn(
        self, parts: Sequence[Given], first: bool, opening: str | None = None
    ) -> list[int]:
        """The chat template around what the user says, from bos on, or after an answer and its eos.

        Later turns leave out the template's opening; in the first `opening` replaces it.
        """
        place = opening_length(self.chat_template)
        own, turn = self.chat_template[:place], self.chat_template[place:]
        if not first:
            return self._joined(self._filled(turn, parts))
        if opening is None:
            said = self._split(own)
        elif not own:
            raise InputError(
                f"system {shown(opening)}: the chat template {shown(turn)} has no place for it; "
                "leave the system message out"
            )
        else:
            said = self._user(opening + own[len(own.rstrip()) :])
        return self._joined([[self.vocabulary.bos], *said, *self._filled(turn, parts)])

    def answer(self, parts: Sequence[Given]) -> list[int]:
        """What the assistant said, and eos."""
        return [*self.ids_of(parts), self.vocabulary.eos]

    def ids_of(self, parts: Sequence[Part]) -> list[int]:
        """The ids of parts as they are, with nothing around them."""
        return self._joined(self._pieces(parts))

    def generation(self, text: str, h: int, w: int) -> list[int]:
        """The prompt that asks for a picture of h x w codes; ends in img.

        It is `prompt([Text(text), Open((h, w))])`, on a shorter way.
        """
        head = self.vocabulary.image_head(self.size_ids(h, w)).tolist()
        return self._joined([[self.vocabulary.bos], *self._user(text), head])

    def understanding(self, text: str, codes: np.ndarray | None = None) -> list[int]:
        """The prompt that asks `text` about a picture of codes (h, w), or without a picture."""
        return self.user_turn([*([] if codes is None else [Coded(codes)]), Text(text)], first=True)

    def follow_up(self, text: str) -> list[int]:
        """What asks `text` after an answer and its eos, in the same conversation."""
        return self.user_turn([Text(text)], first=False)

    def _filled(self, template: str, parts: Sequence[Given]) -> Pieces:
        """The pieces of `template` with parts in its fields; without a picture its field is left
        out, and the texts beside it touch.

        Pictures and clips that come first are the image, texts after them the text; parts in
        another order stand in place of both fields, in theirs.
        """
        texts = [isinstance(part, Text) for part in parts]
        first = texts.index(True) if any(texts) else len(parts)
        fields = {
            IMAGE_FIELD: self._pieces(parts[:first]),
            TEXT_FIELD: self._pieces(parts[first:]),
        }
        if not all(texts[first:]):
            start, end = (
                re.split(r"\{image_prompt\}|\{text_prompt\}", template)[i] for i in (0, -1)
            )
            template = f"{start}{IMAGE_FIELD}{end}"
            fields = {IMAGE_FIELD: self._pieces(parts)}
        pieces: Pieces = []
        for piece in re.split(r"(\{image_prompt\}|\{text_prompt\})", template):
            pieces += fields[piece] if piece in fields else self._split(piece)
        return pieces

    def _pieces(self, parts: Sequence[Part]) -> Pieces:
        pieces: Pieces = []
        for part in parts:
            pieces += self._user(part.text) if isinstance(part, Text) else [self._visual(part)]
        return pieces

    def _visual(self, part: Part) -> list[int]:
        """The block of a coded picture or clip, or the head and first frames of an open one."""
        if isinstance(part, Coded):
            t, h, w = part.size
            ids = self.vocabulary.image_block(part.codes, self.size_ids(h, w, t, part.fps))
            return ids.tolist()
        if not isinstance(part, Open):
            raise InputError(
                f"{type(part).__name__} has pixels; allowed here: Coded, its codes; or give it to "
                "Emu3Processor"
            )
        t, h, w = whole_size(part.size)
        head = self.vocabulary.image_head(self.size_ids(h, w, t, part.fps)).tolist()
        return head if part.begun is None else [*head, *self.vocabulary.frame_ids(part.begun)]

    def _user(self, text: str) -> Pieces:
        if not isinstance(text, str):
            raise InputError(f"prompt {text!r} is no text; allowed: str; change --prompt")
        return self._split(text) if self.allow_special_tokens else [text]

    def _split(self, text: str) -> Pieces:
        """Special tokens as ids, the text between them as it is."""
        ids = self.tokenizer.special_ids
        return [
            [ids[part]] if part in ids else part for part in self.tokenizer.split_specials(text)
        ]

    def _joined(self, pieces: Pieces) -> list[int]:
        """One row of ids; texts side by side are tokenised as one."""
        row, text = [], ""
        for piece in [*pieces, []]:
            if isinstance(piece, str):
                text += piece
            else:
                row += self.tokenizer.encode_ordinary(text) + piece
                text = ""
        return row


def opening_length(template: str) -> int:
    """Characters of a chat template before the user's turn, which every question repeats.

        You are a helpful assistant. USER: {image_prompt}{text_prompt}. ASSISTANT:
        opening                      marker            fields           marker

    The word before the fields marks the user's turn when the template's last word, which marks
    the assistant's, ends like it (USER: and ASSISTANT:). A template without markers has no opening.
    """
    before, after = template.split("{", 1)[0], template.rsplit("}", 1)[1]
    user, assistant = (re.search(r"[^\s。！？]+\s*$", part) for part in (before, after))
    alike = user and assistant and user[0].rstrip()[-1] == assistant[0].rstrip()[-1]
    return user.start() if alike else 0


def check_turns(messages: Sequence[Message], last: str) -> None:
    """Refuse messages that are not of user and assistant in turn, the `last` one's at the end.

    Raises:
        InputError: names who speaks.
    """
    roles = [getattr(message, "role", type(message).__name__) for message in messages]
    turns = [ROLES[number % 2] for number in range(len(roles))]
    if not roles or roles != turns or roles[-1] != last:
        raise InputError(
            f"messages of {', '.join(roles) or 'nobody'}; allowed: user and assistant in turn, "
            f"from the user to the {last}"
        )


def _check_fields(
    name: str, template: str, fields: tuple[str, ...], further: tuple[str, ...] | None = None
) -> None:
    """Refuse a template that lacks one of `fields`, or holds others than they and `further`.

    Without `further` it may be a name, too, and other braces are text.
    """
    usable = isinstance(template, str) and all(template.count(field) == 1 for field in fields)
    remedy = f", or a name: {', '.join(CHAT_TEMPLATES)}; change {name} (--template)"
    if further is not None:
        rest = re.sub("|".join(map(re.escape, (*fields, *further))), "", str(template))
        usable = usable and "{" not in rest and "}" not in rest
        optional = "".join(f", {field} or not" for field in further)
        remedy = f"{optional}, and no other braces; change {name}"
    if not usable:
        raise InputError(
            f"{name} {shown(template)} is not usable; allowed: a text with "
            f"{' and '.join(fields)} once each{remedy}"
        )
