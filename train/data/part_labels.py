"""What of a list of parts, or of a conversation, is supervised: what is generated, never given.

Of what is wanted, texts are labels, and codes from the first frame that is not given; with
`structure` also eol, eof and eoi. In a conversation each answer's eos is one too, and where an
answer holds a picture or a clip its boi, which the model says itself; its size text and img, which
generation gives, are not.
"""

import itertools

import numpy as np

from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.mllm.parts import Coded, Message, Text
from emu3.mllm.prompts import PromptBuilder, check_turns
from train.data.parts import Given, Said, Wanted


def labelled(
    builder: PromptBuilder, entries: list[Said], structure: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and labels (T,) int32 of a list of parts, or of a conversation.

    With `structure` eol, eof, eoi of what is wanted are labels, and eos after it.

    Raises:
        InputError: messages that do not take turns, or codes outside the vocabulary.
    """
    if isinstance(entries[0], Message):
        return _answers(builder, entries, structure)
    row = _Row([builder.vocabulary.bos])
    for entries_alike in _runs(entries):
        if isinstance(entries_alike[0], Given):
            row.give(builder.ids_of([entry.part for entry in entries_alike]))
        else:
            for entry in entries_alike:
                row.want(builder, entry.part, entry.given, structure)
    last = entries[-1]
    if isinstance(last, Wanted):
        ends = structure or isinstance(last.part, Text)
        row.add([builder.vocabulary.eos], [ends])
    return row.arrays()


def _answers(
    builder: PromptBuilder, messages: list[Message], structure: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Turns of user and assistant, each answer and its eos supervised."""
    row = _Row([])
    check_turns(messages, "assistant")
    for number, message in enumerate(messages):
        if message.role == "user":
            row.give(builder.user_turn(message.parts, not number))
            continue
        for part in message.parts:
            row.want(builder, part, 0, structure, says_boi=True)
        row.add([builder.vocabulary.eos], [True])
    return row.arrays()


def _runs(entries: list[Given | Wanted]) -> list[list[Given | Wanted]]:
    """Entries side by side that are all given, or all wanted: texts among them are one."""
    return [list(run) for _, run in itertools.groupby(entries, type)]


def worded(
    entries: list[Said],
    captions: list[str],
    rng: np.random.Generator | None,
    null_prompt_prob: float,
) -> list[Said]:
    """The parts of a sample with one of `captions` drawn for the first given text.

    Where a picture or a clip is wanted, all that is given in words is dropped with the chance
    `null_prompt_prob`, so that guidance has its other half. None draws nothing.
    """
    if rng is None:
        return entries
    texts = [i for i, e in enumerate(entries) if isinstance(e, Given) and isinstance(e.part, Text)]
    if captions and texts:
        drawn = Given(Text(str(rng.choice(captions))))
        entries = [drawn if i == texts[0] else entry for i, entry in enumerate(entries)]
    if not _wants_codes(entries) or rng.random() >= null_prompt_prob:
        return entries
    return [_wordless(entry) for entry in entries]


def _wants_codes(entries: list[Said]) -> bool:
    """Whether a picture or a clip is to be made."""
    answers = [e for e in entries if isinstance(e, Message) and e.role == "assistant"]
    parts = [p for answer in answers for p in answer.parts]
    parts += [entry.part for entry in entries if isinstance(entry, Wanted)]
    return any(isinstance(part, Coded) for part in parts)


def _wordless(entry: Said) -> Said:
    """An entry whose given words are empty."""
    if isinstance(entry, Given) and isinstance(entry.part, Text):
        return Given(Text(""))
    if isinstance(entry, Message) and entry.role == "user":
        parts = [part for part in entry.parts if isinstance(part, Coded)]
        return Message("user", (*parts, Text("")))
    return entry


class _Row:
    """Ids under way and which of them are labels."""

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.wanted = list(ids), [False] * len(ids)

    def add(self, ids: list[int], wanted: list[bool]) -> None:
        self.ids += ids
        self.wanted += wanted

    def give(self, ids: list[int]) -> None:
        self.add(ids, [False] * len(ids))

    def want(
        self,
        builder: PromptBuilder,
        part: Text | Coded,
        given: int,
        structure: bool,
        says_boi: bool = False,
    ) -> None:
        """Add a supervised part, of codes those from frame `given` on."""
        ids = np.array(builder.ids_of([part]), np.int32)
        if isinstance(part, Text):
            self.add(ids.tolist(), [True] * len(ids))
            return
        _, h, w = part.size
        words = builder.vocabulary
        grid = len(ids) - len(words.image_body(part.codes)) + words.row_start(h, w, given * h)
        wanted = (np.arange(len(ids)) >= grid) & (structure | words.is_visual(ids))
        wanted[0] = says_boi
        self.add(ids.tolist(), wanted.tolist())

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        ids = np.array(self.ids, np.int32)
        return ids, np.where(self.wanted, ids, IGNORED_LABEL).astype(np.int32)
