"""How a prompt is put together, once: for inference and for training samples.

    generation     bos, text, boi, "h*w", img                 the model goes on with visual ids
    understanding  bos, chat template around image and text   the model goes on with its answer
    follow-up      the template's user part around text       after an answer and its eos

h, w are latent rows and columns. Text that stands side by side is tokenised together; an image
and a special token separate it.
"""

import re

import numpy as np

from emu3.errors import InputError, shown
from emu3.mllm.tokenization_emu3 import Emu3Tokenizer
from emu3.mllm.vocabulary import VISUAL_TEMPLATE, Vocabulary

CHAT_TEMPLATES = {
    "chat": "You are a helpful assistant. USER: {image_prompt}{text_prompt}. ASSISTANT:",
    "stage1": "{image_prompt}{text_prompt}",
}
PREFIX_TEMPLATE = "{H}*{W}"


class PromptBuilder:
    """Prompts as ids, from texts and VQ codes; needs the tokenizer only.

    Args:
        tokenizer: an Emu3Tokenizer.
        chat_template: "chat", "stage1" or a text with {image_prompt} and {text_prompt}; by default
            the tokenizer's own chat_template, else "chat".
        prefix_template: the size text, with {H} and {W}.
        visual_template: the spelling of a visual token, with {token_id}.
        allow_special_tokens: a special token written out in a user's text becomes its id, as in
            the reference; by default it is ordinary text.

    Raises:
        InputError: a template lacks a field, or the tokenizer lacks a token.
    """

    def __init__(
        self,
        tokenizer: Emu3Tokenizer,
        chat_template: str | None = None,
        prefix_template: str = PREFIX_TEMPLATE,
        visual_template: str = VISUAL_TEMPLATE,
        allow_special_tokens: bool = False,
    ):
        template = chat_template or tokenizer.chat_template or "chat"
        self.tokenizer = tokenizer
        self.vocabulary = Vocabulary.from_tokenizer(tokenizer, visual_template)
        known = isinstance(template, str) and template in CHAT_TEMPLATES
        self.chat_template = CHAT_TEMPLATES[template] if known else template
        self.prefix_template = prefix_template
        self.allow_special_tokens = allow_special_tokens
        _check_fields("chat_template", self.chat_template, ("{image_prompt}", "{text_prompt}"))
        _check_fields("prefix_template", prefix_template, ("{H}", "{W}"))

    def size_ids(self, h: int, w: int) -> list[int]:
        """Ids of the size text of an image of h x w codes."""
        return self.tokenizer.encode_ordinary(self.prefix_template.format(H=h, W=w))

    def generation(self, text: str, h: int, w: int) -> list[int]:
        """The prompt that asks for a picture of h x w codes; ends in img."""
        head = self.vocabulary.image_head(self.size_ids(h, w)).tolist()
        return self._joined([[self.vocabulary.bos], *self._user(text), head])

    def understanding(self, text: str, codes: np.ndarray | None = None) -> list[int]:
        """The prompt that asks `text` about an image of codes (h, w), or without an image."""
        image = None
        if codes is not None:
            image = self.vocabulary.image_block(codes, self.size_ids(*np.shape(codes))).tolist()
        return self._joined([[self.vocabulary.bos], *self._filled(self.chat_template, text, image)])

    def follow_up(self, text: str) -> list[int]:
        """What asks `text` after an answer and its eos, in the same conversation.

        It is the chat template without its image and without its opening.
        """
        turn = self.chat_template[opening_length(self.chat_template) :]
        return self._joined(self._filled(turn, text, None))

    def _filled(self, template: str, text: str, image: list[int] | None) -> list[str | list[int]]:
        """The pieces of `template` with its fields filled in; without an image its field is left
        out, and the texts beside it touch."""
        pieces: list[str | list[int]] = []
        for part in re.split(r"(\{image_prompt\}|\{text_prompt\})", template):
            if part == "{image_prompt}":
                pieces += [] if image is None else [image]
            elif part == "{text_prompt}":
                pieces += self._user(text)
            else:
                pieces += self._split(part)
        return pieces

    def _user(self, text: str) -> list[str | list[int]]:
        if not isinstance(text, str):
            raise InputError(f"prompt {text!r} is no text; allowed: str; change --prompt")
        return self._split(text) if self.allow_special_tokens else [text]

    def _split(self, text: str) -> list[str | list[int]]:
        """Special tokens as ids, the text between them as it is."""
        ids = self.tokenizer.special_ids
        return [
            [ids[part]] if part in ids else part for part in self.tokenizer.split_specials(text)
        ]

    def _joined(self, pieces: list[str | list[int]]) -> list[int]:
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


def _check_fields(name: str, template: str, fields: tuple[str, ...]) -> None:
    if not isinstance(template, str) or any(template.count(field) != 1 for field in fields):
        raise InputError(
            f"{name} {shown(template)} is not usable; allowed: a text with "
            f"{' and '.join(fields)} once each, or a name: {', '.join(CHAT_TEMPLATES)}; change "
            f"{name} (--template)"
        )
