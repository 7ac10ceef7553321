"""What the page does: pictures and clips that grow, answers that stream, edits, what is rebuilt.

Handlers are generators over a job's events; the page's stop buttons close them, which cancels the
job and leaves what is shown. Uploads are read by `emu3.images` within the limits; files of the page
are removed by `emu3.web.tidying`.
"""

import itertools
import os
import queue
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from emu3.cli.outputs import new_file
from emu3.errors import InputError
from emu3.films import ClipOptions
from emu3.images import DEFAULT_FPS, FrameSource
from emu3.metrics import psnr
from emu3.mllm.parts import Clip, Given, Image, Message, Text
from emu3.pipeline import AskSettings, DrawSettings, Picture, PictureSize
from emu3.web.allowance import Allowance
from emu3.web.tasks import Ask, Change, Draw, Edit, Film, Finished, Piece, Question, Rebuild, Rows
from emu3.web.worker import Failed, Full, Job

if TYPE_CHECKING:
    import PIL.Image

    from emu3.loading import Emu3
    from emu3.web.desk import Limits
    from emu3.web.worker import Worker

LEAST_PAUSE = 0.2  # seconds between two unfinished pictures
PAUSE = 4  # times what showing one costs
Shown = Iterator[tuple[Any, str]]


@dataclass(frozen=True)
class Page:
    """What the handlers need; files that visitors send lie in `uploads`."""

    models: "Emu3"
    worker: "Worker"
    limits: "Limits"
    uploads: Path
    save: Path | None = None

    @property
    def clips(self) -> bool:
        """Whether the checkpoint states how it is asked for clips."""
        return self.models.defaults.video_prefix_template is not None

    def draw(
        self,
        prompt: str,
        seed: float,
        guidance: float,
        temperature: float,
        decoding: str,
        best_of: float,
        ratio: str,
        frames: float = 0,
    ) -> Shown:
        """(what there is of a prompt's picture, or of a clip's frame, status)."""
        defaults, codec = self.models.defaults, self.models.codec
        with told():
            settings = _settings(guidance, temperature, decoding, best_of)
            settings, seed = settings.filled(defaults), int(seed or 0)
            factor = codec.config.spatial_scale_factor
            (size,) = PictureSize([ratio]).grids(1, defaults.image_area, factor)
            if frames:
                film = ClipOptions(int(frames)).film(
                    prompt or defaults.video_prompt,
                    size,
                    seed,
                    self.models.frames_a_code,
                    defaults,
                )
                yield from self._growing(Film(settings), film)
            else:
                picture = Picture(prompt or defaults.example_prompt, size, seed)
                yield from self._growing(Draw(settings), picture)

    def edit(
        self,
        prompt: str,
        seed: float,
        guidance: float,
        temperature: float,
        decoding: str,
        best_of: float,
        paths: list[str] | None,
    ) -> Shown:
        """(what there is of the picture that was told to change, status)."""
        with told():
            if not paths or not prompt.strip():
                raise InputError("a picture and what to do with it are needed")
            settings = _settings(guidance, temperature, decoding, best_of)
            allowance = Allowance(self.limits.pixels)
            images = [self._image(path, allowance) for path in paths]
            task = Edit(settings.filled(self.models.defaults))
            yield from self._growing(task, Change(prompt, images, None, int(seed or 0)))

    def ask(self, message: dict[str, Any], history: list[dict[str, Any]]) -> Iterator[str]:
        """The answer so far to a message, in the conversation before it."""
        said = [(turn["role"], turn["content"]) for turn in history]
        said += [("user", (path,)) for path in message.get("files") or ()]
        said.append(("user", message.get("text") or ""))
        allowance = Allowance(self.limits.pixels)
        with told():
            turns = itertools.groupby(said, key=lambda turn: turn[0])
            messages = [
                Message(role, tuple(self._part(content, allowance) for _, content in spoken))
                for role, spoken in turns
            ]
            task = Ask(AskSettings().filled(self.models.defaults))
            for event in self._events(task, Question(messages)):
                yield event.text if isinstance(event, Piece) else event.result

    def rebuild(self, path: str | None) -> tuple[Any, Any, str]:
        """A picture or clip as the model sees it, rebuilt, and how close they are."""
        with told():
            if path is None:
                raise InputError("no picture was given")
            is_clip = self.clips and FrameSource.is_clip(self._own(path), Path(path).name)
            allowance = Allowance(self.limits.pixels)
            item = (self._clip if is_clip else self._image)(path, allowance)
            (event,) = self._events(Rebuild(), item)
        seen, rebuilt = event.result
        first, second = (np.stack(one.frames) if is_clip else one for one in (seen, rebuilt))
        line = f"PSNR {psnr(first, second):.2f} dB, {event.tokens} codes"
        return self._shown(seen), self._shown(rebuilt), line

    def _growing(self, task: Draw | Edit | Film, item: Any) -> Shown:
        """What there is of a picture or clip as it is made, in steps that leave time to make it."""
        watch, due = Watch(), 0.0
        for event in self._events(task, item):
            if isinstance(event, Rows):
                watch.add(event.codes.shape[1])
                began = time.monotonic()
                if began >= due and event.done < len(event.codes):
                    yield self.models.codec.picture(event.codes), watch.line
                    ended = time.monotonic()
                    due = ended + max(LEAST_PAUSE, PAUSE * (ended - began))
            elif isinstance(event, Finished):
                yield self._shown(event.result), f"{watch.line}, done"
                self._keep(event.result)

    def _part(self, content: Any, allowance: Allowance) -> Given:
        """A text, or the picture whose path is all that `content` holds."""
        if isinstance(content, str):
            return Text(content)
        if not isinstance(content, tuple | list) or not isinstance(content[0], str):
            raise InputError("a message that is neither text nor a picture")
        return Image(self._image(content[0], allowance))

    def _own(self, path: str) -> Path:
        """The path of a file that a visitor sent.

        Raises:
            InputError: it is another one.
        """
        found = Path(path).resolve()
        if not found.is_relative_to(self.uploads.resolve()):
            raise InputError("that file was not sent to this page")
        return found

    def _image(self, path: str, allowance: Allowance) -> "PIL.Image.Image":
        return allowance.open(self._own(path), Path(path).name)

    def _clip(self, path: str, allowance: Allowance) -> Clip:
        source = FrameSource(self._own(path), Path(path).name, allowance.most, allowance.most)
        frames = []
        for frame in source.frames():
            allowance.count(frame)
            frames.append(frame)
        return Clip(frames, source.fps() or DEFAULT_FPS)

    def _shown(self, result: "PIL.Image.Image | Clip") -> "PIL.Image.Image | str":
        """What the page can show: a picture, or the path of a clip's file."""
        if not isinstance(result, Clip):
            return result
        handle, path = tempfile.mkstemp(".gif", "clip-", self.uploads)
        os.close(handle)
        return str(result.save(path))

    def _keep(self, result: "PIL.Image.Image | Clip") -> None:
        if self.save is None:
            return
        if isinstance(result, Clip):
            new_file(self.save, "clip", ".gif", result.save)
        else:
            new_file(self.save, "image", ".png", lambda path: result.save(path, format="PNG"))

    def _events(self, task: Any, item: Any) -> Iterator[Any]:
        """The events of one job, up to its last; closing this cancels the job."""
        events: queue.Queue = queue.Queue()
        job = Job(task, item, events.put)
        try:
            self.worker.submit(job)
            while True:
                event = events.get(timeout=self.limits.seconds)
                if isinstance(event, Failed):
                    raise gr.Error(event.message)
                yield event
                if isinstance(event, Finished):
                    return
        except Full:
            if not self.worker.open:
                raise gr.Error("the server is stopping") from None
            raise gr.Error(f"{self.limits.waiting} requests wait already") from None
        except queue.Empty:
            raise gr.Error(f"not done within {self.limits.seconds:g} seconds") from None
        finally:
            job.cancelled.set()


@contextmanager
def told() -> Iterator[None]:
    """Show the visitor what is wrong with what was given."""
    try:
        yield
    except InputError as error:
        raise gr.Error(str(error)) from None


def _settings(guidance: float, temperature: float, decoding: str, best_of: float) -> DrawSettings:
    """How is drawn, as the page's controls give it."""
    return DrawSettings(
        guidance=guidance, temperature=temperature, decoding=decoding, best_of=int(best_of)
    )


class Watch:
    """Tokens and seconds from the first token on."""

    def __init__(self) -> None:
        self.tokens, self.began = 0, None

    def add(self, tokens: int) -> None:
        """Count tokens; the first ones, which a compilation may have delayed, start the clock."""
        if self.began is None:
            self.began = time.monotonic()
        else:
            self.tokens += tokens

    @property
    def line(self) -> str:
        """What the page shows."""
        seconds = time.monotonic() - self.began
        return f"{self.tokens / seconds:.0f} tokens/s" if self.tokens else ""
