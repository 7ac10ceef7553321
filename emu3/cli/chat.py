"""A conversation with pictures and clips: `emu3 chat`.

    > What is in @photo.png?          a word that begins with @ is the path of a picture or a clip
    > Is it the same as @"a b.gif"?   with blanks in quotes; several, anywhere in a line
    > /new                            begins anew; /quit or the end of the input ends

Answers are shown as they come. Pictures that the model draws are files in --output.
"""

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emu3.cli import options as shared
from emu3.cli import shell
from emu3.cli.outputs import PartsBar, Spoken, new_file, save_picture
from emu3.codesfile import Codes
from emu3.errors import InputError
from emu3.facade import Emu3
from emu3.files import own_folder
from emu3.loading import load_models
from emu3.mllm.generation.events import PrefillPart, RowDone, TextPiece
from emu3.mllm.parts import Coded, Text
from emu3.options import group, option, path_text, words
from emu3.pipeline import AskSettings, DrawSettings, PictureSize
from emu3.talks import Talk

NAMED = re.compile(r'(?<!\S)@(?:"([^"]+)"|(\S+))')
ENDS = ".,;:!?。，；：！？)"


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    model: str = shared.language_model()
    vq_model: str = shared.vision_model()
    settings: AskSettings = group()
    size: PictureSize = group()
    seed: int = shared.seed()
    output: str = option(
        "folder for pictures that the model draws, numbered chat_0000 ...",
        "outputs",
        path_text,
        metavar="FOLDER",
    )
    weights: str | None = shared.weights()
    device: shared.Device = group()


def run(options: Options) -> None:
    """Answer line after line of the input."""
    folder, device = own_folder(options.output), options.device
    device.start()
    models = load_models(
        options.model,
        options.vq_model,
        device.dtype,
        device.attn_implementation,
        options.weights,
    )
    factor = models.codec.config.spatial_scale_factor
    (size,) = options.size.grids(1, models.defaults.image_area, factor)
    shared.notice_if_snapped(options.size, factor)
    asking = options.settings.filled(models.defaults)
    drawing = DrawSettings().filled(models.defaults)
    talk = Talk(models.model, models.prompts, asking, drawing, size, device.jit)
    table = Table(models, talk, folder, options)
    for number, line in enumerate(lines()):
        if line == "/quit":
            return
        if line == "/new":
            talk.messages = []
            continue
        try:
            table.answer(line, options.seed + number)
        except InputError as error:  # a line that cannot be answered costs no conversation
            print(f"emu3: {error}", file=sys.stderr)


def lines() -> Iterator[str]:
    """The lines of the input that say something, each behind a mark where a person types."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # told by `parts_of`, a line at a time
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def parts_of(line: str) -> list[Text | Path]:
    """The texts and paths of a line, in order.

    Raises:
        InputError: it is not UTF-8 or too long, or a path is none.
    """
    parts: list[Text | Path] = []
    place = 0
    for found in NAMED.finditer(_read(words, line)):
        name = found[1] or found[2].rstrip(ENDS)
        if not name:  # "@." names nothing
            continue
        end = found.end() if found[1] else found.start() + 1 + len(name)
        parts += [Text(line[place : found.start()].strip()), Path(_read(path_text, name))]
        place = end
    parts.append(Text(line[place:].strip()))
    return [part for part in parts if not isinstance(part, Text) or part.text]


def _read(kind: Callable[[str], str], text: str) -> str:
    try:
        return kind(text)
    except argparse.ArgumentTypeError as error:
        raise InputError(str(error)) from None


@dataclass
class Table:
    """Where a conversation is shown."""

    models: Emu3
    talk: Talk
    folder: Path
    options: Options

    def answer(self, line: str, seed: int) -> None:
        """Print the answer to a line as it comes, and write its picture.

        Raises:
            InputError: a path that leads to no picture, or a conversation that is too long.
        """
        said: list[Text | Coded] = []
        for part in parts_of(line):
            said.append(self._coded(part) if isinstance(part, Path) else part)
        answer = Spoken(self.talk.text)
        rows: list[np.ndarray] = []
        bar = PartsBar()
        for event in self.talk.say(said, seed):
            if isinstance(event, TextPiece):
                answer.ids += event.ids.tolist()
                answer.say()
            elif isinstance(event, RowDone):
                rows.append(event.codes)
            elif isinstance(event, PrefillPart):
                bar.show(event)
        answer.end()
        if rows:
            print(self._write(np.stack(rows), line, seed))

    def _coded(self, path: Path) -> Coded:
        if not os.path.exists(path):  # unlike Path's, never fails
            raise InputError(f"@{path} leads to nothing; allowed: a picture or a clip")
        coded = self.models.coded(path)
        if coded.codes.ndim == 3:
            shared.notice_of_clips(self.models.defaults)
        return coded

    def _write(self, codes: np.ndarray, line: str, seed: int) -> Path:
        """Write the codes and the picture of an answer."""
        names = {"model": self.options.model, "vq_model": self.options.vq_model}
        settings = {key: shared.public_name(name) for key, name in names.items()}
        settings |= {"prompt": line, "seed": seed}
        path = new_file(self.folder, "chat", ".npz", Codes(codes, settings).save)
        save_picture(self.models.codec.picture(codes), settings, path.with_suffix(".png"))
        return path.with_suffix(".png")


build_parser, main = shell.command(
    "emu3.cli.chat",
    "Talk about pictures and clips. The released checkpoints never saw clips or edits.",
    Options,
    run,
)

if __name__ == "__main__":
    shell.leave(main())
