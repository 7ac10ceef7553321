"""The web page: pictures that grow row by row, answers that stream, pictures rebuilt.

Handlers are generators over a job's events; the page's stop button closes them, which cancels the
job and leaves what is shown. Uploads are read by `emu3.images` within the limits and kept nowhere.
"""

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from emu3.cli.outputs import new_file
from emu3.errors import InputError
from emu3.images import read_image
from emu3.metrics import psnr
from emu3.mllm.generation.schemes import SCHEMES
from emu3.pipeline import AskSettings, DrawSettings, Picture, PictureSize
from emu3.web.tasks import Ask, Draw, Finished, Piece, Question, Rebuild, Rows
from emu3.web.worker import Failed, Full, Job

if TYPE_CHECKING:
    from emu3.loading import Emu3
    from emu3.web.server import Limits
    from emu3.web.worker import Worker

RATIOS = ("1:1", "4:3", "3:4", "16:9", "9:16")
LEAST_PAUSE = 0.2  # seconds between two unfinished pictures
SIDE = 400  # pixels on the page
PAUSE = 4  # times what showing one costs


@dataclass(frozen=True)
class Page:
    """What the handlers need."""

    models: "Emu3"
    worker: "Worker"
    limits: "Limits"
    save: Path | None = None

    def draw(
        self,
        prompt: str,
        seed: float,
        ratio: str,
        guidance: float,
        temperature: float,
        decoding: str,
    ) -> Iterator[tuple[Any, str]]:
        """(picture so far, status) of a prompt."""
        defaults = self.models.defaults
        asked = DrawSettings(guidance=guidance, temperature=temperature, decoding=decoding)
        factor = self.models.codec.config.spatial_scale_factor
        (size,) = PictureSize([ratio]).grids(1, defaults.image_area, factor)
        picture = Picture(prompt or defaults.example_prompt, size, int(seed or 0))
        watch, due = Watch(), 0.0
        for event in self._events(Draw(asked.filled(defaults)), picture):
            if isinstance(event, Rows):
                watch.add(event.codes.shape[1])
                began = time.monotonic()
                if began >= due and event.done < len(event.codes):
                    yield self.models.codec.picture(event.codes), watch.line
                    ended = time.monotonic()
                    due = ended + max(LEAST_PAUSE, PAUSE * (ended - began))
            elif isinstance(event, Finished):
                yield event.result, f"{watch.line}, done"
                self._keep(event.result)

    def ask(self, message: dict[str, Any], history: list[dict[str, Any]]) -> Iterator[str]:
        """The answer so far to a message, about its picture or the last one sent."""
        files = message.get("files") or files_of(history)
        pixels = self._pixels(files[-1]) if files else None
        task = Ask(AskSettings().filled(self.models.defaults))
        for event in self._events(task, Question(message.get("text") or "", pixels)):
            yield event.text if isinstance(event, Piece) else event.result

    def rebuild(self, path: str | None) -> tuple[Any, Any, str]:
        """The picture as the model sees it, rebuilt, and how close they are."""
        if path is None:
            raise gr.Error("no picture was given")
        (event,) = self._events(Rebuild(), self._pixels(path))
        seen, rebuilt = event.result
        return seen, rebuilt, f"PSNR {psnr(seen, rebuilt):.2f} dB, {event.tokens} codes"

    def _pixels(self, path: str) -> Any:
        try:
            image = read_image(Path(path).read_bytes(), Path(path).name, self.limits.pixels)
            return self.models.codec.pixels(image)
        except InputError as error:
            raise gr.Error(str(error)) from None

    def _keep(self, picture: Any) -> None:
        if self.save is not None:
            new_file(self.save, "image", ".png", lambda path: picture.save(path, format="PNG"))

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
            raise gr.Error(f"{self.limits.waiting} requests wait already") from None
        except queue.Empty:
            raise gr.Error(f"not done within {self.limits.seconds:g} seconds") from None
        finally:
            job.cancelled.set()


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


def files_of(history: list[dict[str, Any]]) -> list[str]:
    """Paths of the pictures sent earlier in a conversation."""
    contents = [turn["content"] for turn in history if turn["role"] == "user"]
    return [content[0] for content in contents if isinstance(content, tuple | list)]


def make_page(page: Page, name: str, words: gr.I18n) -> gr.Blocks:
    """The page of a model called `name`, in `words`."""
    defaults = page.models.defaults
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    with gr.Blocks(title=f"Emu3: {name}", theme=theme, analytics_enabled=False) as blocks:
        gr.Markdown(f"# Emu3 \u00b7 {name}")
        with gr.Tab(words("create")):
            _create(page, words, defaults)
        with gr.Tab(words("ask")):
            gr.ChatInterface(
                page.ask,
                type="messages",
                multimodal=True,
                textbox=gr.MultimodalTextbox(
                    file_types=["image"],
                    file_count="single",
                    placeholder=words("question"),
                    elem_id="question",
                ),
            )
        with gr.Tab(words("rebuild")):
            _rebuild(page, words)
    return blocks.queue(
        default_concurrency_limit=page.limits.together, max_size=page.limits.waiting
    )


def _create(page: Page, words: gr.I18n, defaults: Any) -> None:
    with gr.Row():
        with gr.Column():
            prompt = gr.Textbox(
                label=words("prompt"), value=defaults.example_prompt, elem_id="prompt"
            )
            with gr.Row():
                seed = gr.Number(0, label=words("seed"), precision=0, minimum=0)
                ratio = gr.Dropdown(list(RATIOS), value="1:1", label=words("ratio"))
            guidance = gr.Slider(
                1,
                round(3 * defaults.guidance_scale, 1),
                defaults.guidance_scale,
                step=0.1,
                label=words("guidance"),
            )
            temperature = gr.Slider(
                0, 2, defaults.temperature, step=0.05, label=words("temperature")
            )
            decoding = gr.Dropdown(list(SCHEMES), value=defaults.decoding, label=words("decoding"))
            with gr.Row():
                go = gr.Button(words("draw"), variant="primary", elem_id="draw")
                stop = gr.Button(words("stop"), variant="stop", elem_id="stop")
        with gr.Column():
            picture = gr.Image(
                label=words("picture"),
                format="png",
                height=SIDE,
                interactive=False,
                elem_id="picture",
            )
            status = gr.Markdown(elem_id="status")
    asked = [prompt, seed, ratio, guidance, temperature, decoding]
    running = gr.on(
        [go.click, prompt.submit], page.draw, asked, [picture, status], show_progress="minimal"
    )
    stop.click(None, cancels=running)


def _rebuild(page: Page, words: gr.I18n) -> None:
    with gr.Row():
        given = gr.File(label=words("original"), file_types=["image"], elem_id="original")
        seen = gr.Image(
            label=words("seen"), format="png", height=SIDE, interactive=False, elem_id="seen"
        )
        rebuilt = gr.Image(
            label=words("rebuilt"), format="png", height=SIDE, interactive=False, elem_id="rebuilt"
        )
    lost = gr.Markdown(elem_id="lost")
    given.upload(page.rebuild, given, [seen, rebuilt, lost])
