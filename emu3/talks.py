"""Edits, and conversations of several turns with pictures and clips in them.

    pictures and an instruction   ->  Edits  -> codes of a picture, row by row
    messages                      ->  Talk   -> pieces of an answer, and the rows of its picture

An answer is text; where the model says boi, a picture follows it. Its size is the last picture's of
the conversation, else the one asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from emu3.mllm.generation.events import Done, Event, FrameDone, TextPiece
from emu3.mllm.parts import Coded, Message, Open, Text, whole_size
from emu3.pipeline import AskSettings, DrawSettings, drawing_request

if TYPE_CHECKING:
    from emu3.mllm import Emu3ForCausalLM
    from emu3.mllm.generation.request import Request
    from emu3.mllm.prompts import PromptBuilder


@dataclass(frozen=True, eq=False)
class Edit:
    """Codes of one or several pictures, what is to be done, the size (h, w) wanted, and a seed."""

    prompt: str
    codes: Sequence[np.ndarray]
    size: tuple[int, int]
    seed: int = 0


class Edits:
    """Pictures and instructions to the codes of pictures."""

    def __init__(self, model: "Emu3ForCausalLM", prompts: "PromptBuilder") -> None:
        self.model, self.prompts = model, prompts

    def request(
        self, edits: Sequence[Edit], settings: DrawSettings, jit: bool | None = None
    ) -> "Request":
        """The request for a batch of edits; settings are `filled`; the suffix is not used.

        Guidance steers away from the same pictures with the negative prompt.

        Raises:
            InputError: pictures and instruction are too long together.
        """
        texts = [[edit.prompt, settings.negative_prompt] for edit in edits]
        prompts, negatives = zip(
            *([self._ids(edit, text) for text in pair] for edit, pair in zip(edits, texts))
        )
        return drawing_request(
            self.model,
            list(prompts),
            list(negatives),
            [edit.seed for edit in edits],
            settings,
            jit=jit,
            image_size=[edit.size for edit in edits],
        )

    def _ids(self, edit: Edit, text: str) -> list[int]:
        parts = (*map(Coded, edit.codes), Text(text))
        return self.prompts.conversation([Message("user", parts)], Open(edit.size))

    def run(self, request: "Request") -> Iterator[Event]:
        """The events of a request: `RowDone` for each row of codes, at last `Done`."""
        return self.model.run(request)


@dataclass
class Talk:
    """A conversation under way: what was said, and answers as they come.

    Args:
        model: the language model.
        prompts: its prompts.
        asking: how texts are answered, `filled`.
        drawing: how pictures in answers are drawn, `filled`; their suffix is not used.
        size: (h, w) of a picture where none came before.
        jit: as of generate().
    """

    model: "Emu3ForCausalLM"
    prompts: "PromptBuilder"
    asking: AskSettings
    drawing: DrawSettings
    size: tuple[int, int]
    jit: bool | None = None
    messages: list[Message] = field(default_factory=list)

    def say(self, parts: Sequence[Text | Coded], seed: int = 0) -> Iterator[Event]:
        """The events of the answer to what the user says: `TextPiece`, then perhaps a picture's.

        A whole answer joins `messages` with what it answers; one cut short leaves both out.

        Raises:
            InputError: the conversation is too long for the model.
        """
        said = [*self.messages, Message("user", tuple(parts))]
        ids: list[int] = []
        request = self._text_request(said, seed)
        for event in self.model.run(request):
            ids += event.ids.tolist() if isinstance(event, TextPiece) else []
            if not isinstance(event, Done):
                yield event
        words = self.prompts.vocabulary
        answer: list[Text | Coded] = [Text(self.text(ids))] if ids else []
        done = event
        if words.boi in done.sequences[0, request.ids.shape[1] :]:
            for event in self.model.run(self._picture_request(said, ids, seed)):
                if isinstance(event, FrameDone):
                    answer.append(Coded(event.codes))
                done = event
                if not isinstance(event, Done):
                    yield event
        self.messages = [*said, Message("assistant", tuple(answer or [Text("")]))]
        yield done

    def text(self, ids: Sequence[int]) -> str:
        """The text that ids spell."""
        return self.prompts.tokenizer.decode(list(ids), skip_special_tokens=True)

    def _text_request(self, said: list[Message], seed: int) -> "Request":
        words = self.prompts.vocabulary
        return self.model.request(
            [self.prompts.conversation(said)],
            max_new_tokens=self.asking.max_new_tokens,
            eos_token_id=[words.eos, words.boi],
            seed=[seed],
            jit=self.jit,
            **self.asking.arguments,
        )

    def _picture_request(self, said: list[Message], ids: list[int], seed: int) -> "Request":
        """The request for the picture after the `ids` of an answer.

        Guidance steers away from the negative prompt in place of the last words.
        """
        size = next(_sizes(said), self.size)
        pictures = [part for part in said[-1].parts if isinstance(part, Coded)]
        unwanted = Message("user", (*pictures, Text(self.drawing.negative_prompt)))
        head = [*ids, *self.prompts.ids_of([Open(size)])]
        prompts = [
            self.prompts.conversation(messages) + head
            for messages in (said, [*said[:-1], unwanted])
        ]
        return drawing_request(
            self.model,
            prompts[:1],
            prompts[1:],
            [seed],
            self.drawing,
            jit=self.jit,
            image_size=[size],
        )


def _sizes(said: Sequence[Message]) -> Iterator[tuple[int, int]]:
    """(h, w) of the pictures and clips of a conversation, the last one first."""
    for message in reversed(said):
        for part in reversed(message.parts):
            if isinstance(part, Coded):
                yield whole_size(part.codes.shape)[1:]
