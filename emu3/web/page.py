"""The web page: four tabs over the handlers of `emu3.web.handlers`.

Create    a picture, or a clip where the checkpoint makes any, that grows row by row
Ask       a conversation with pictures
Edit      pictures changed as told
Rebuild   a picture or clip, its codes, and what they give back
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from emu3.mllm.generation.schemes import SCHEMES
from emu3.web.allowance import MOST_BEST_OF
from emu3.web.handlers import Page

RATIOS = ("1:1", "4:3", "3:4", "16:9", "9:16")
SIDE = 400  # pixels on the page
MOST_FRAMES = 64


def make_page(page: Page, name: str, words: gr.I18n) -> gr.Blocks:
    """The page of a model called `name`, in `words`."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    with gr.Blocks(title=f"Emu3: {name}", theme=theme, analytics_enabled=False) as blocks:
        gr.Markdown(f"# Emu3 \u00b7 {name}")
        form = Form(page, words)
        with gr.Tab(words("create")):
            form.create()
        with gr.Tab(words("ask")):
            gr.ChatInterface(
                page.ask,
                type="messages",
                multimodal=True,
                textbox=gr.MultimodalTextbox(
                    file_types=["image"],
                    file_count="multiple",
                    placeholder=words("question"),
                    elem_id="question",
                ),
            )
        with gr.Tab(words("edit")):
            form.edit()
        with gr.Tab(words("rebuild")):
            form.rebuild()
    return blocks.queue(
        default_concurrency_limit=page.limits.together, max_size=page.limits.waiting
    )


@dataclass(frozen=True)
class Form:
    """The tabs that are forms."""

    page: Page
    words: gr.I18n

    def create(self) -> None:
        """What to draw, and the picture or clip."""
        defaults, more = self.page.models.defaults, []
        with gr.Row():
            with gr.Column():
                prompt = gr.Textbox(
                    label=self.words("prompt"), value=defaults.example_prompt, elem_id="prompt"
                )
                more.append(gr.Dropdown(list(RATIOS), value="1:1", label=self.words("ratio")))
                if self.page.clips:
                    step = self.page.models.frames_a_code
                    more.append(
                        gr.Slider(
                            0,
                            max(MOST_FRAMES, defaults.video_frames),
                            0,
                            step=step,
                            label=self.words("frames"),
                            elem_id="frames",
                        )
                    )
                settings = self._settings()
                go, stop = self._buttons("draw", "stop")
            shown = self._result("picture", "status")
        self._run(
            [go.click, prompt.submit], stop, self.page.draw, [prompt, *settings, *more], shown
        )

    def edit(self) -> None:
        """Pictures and what to do with them, and the picture that becomes of them."""
        with gr.Row():
            with gr.Column():
                given = gr.File(
                    label=self.words("pictures"),
                    file_types=["image"],
                    file_count="multiple",
                    elem_id="pictures",
                )
                prompt = gr.Textbox(label=self.words("change"), elem_id="change")
                settings = self._settings()
                go, stop = self._buttons("apply", "stop_edit")
            shown = self._result("edited", "edit_status")
        self._run(
            [go.click, prompt.submit], stop, self.page.edit, [prompt, *settings, given], shown
        )

    def rebuild(self) -> None:
        """A picture or clip, and what becomes of it."""
        kinds = ["image", "video"] if self.page.clips else ["image"]
        label = self.words("original_or_clip" if self.page.clips else "original")
        with gr.Row():
            given = gr.File(label=label, file_types=kinds, elem_id="original")
            seen, rebuilt = self._image("seen"), self._image("rebuilt")
        lost = gr.Markdown(elem_id="lost")
        given.upload(self.page.rebuild, given, [seen, rebuilt, lost])

    def _settings(self) -> list[gr.components.Component]:
        """Seed, guidance, temperature, decoding, candidates."""
        defaults, words = self.page.models.defaults, self.words
        with gr.Row():
            seed = gr.Number(0, label=words("seed"), precision=0, minimum=0)
            decoding = gr.Dropdown(list(SCHEMES), value=defaults.decoding, label=words("decoding"))
        most = round(3 * defaults.guidance_scale, 1)
        guidance = gr.Slider(1, most, defaults.guidance_scale, step=0.1, label=words("guidance"))
        temperature = gr.Slider(0, 2, defaults.temperature, step=0.05, label=words("temperature"))
        most = max(MOST_BEST_OF, defaults.best_of)
        best_of = gr.Slider(1, most, defaults.best_of, step=1, label=words("best_of"))
        return [seed, guidance, temperature, decoding, best_of]

    def _buttons(self, go: str, stop: str) -> tuple[gr.Button, gr.Button]:
        with gr.Row():
            return (
                gr.Button(self.words(go), variant="primary", elem_id=go),
                gr.Button(self.words("stop"), variant="stop", elem_id=stop),
            )

    def _result(self, picture: str, status: str) -> list[gr.components.Component]:
        with gr.Column():
            return [self._image(picture), gr.Markdown(elem_id=status)]

    def _image(self, name: str) -> gr.Image:
        return gr.Image(
            label=self.words(name), format="png", height=SIDE, interactive=False, elem_id=name
        )

    def _run(
        self, begins: list, stop: gr.Button, work: Callable, asked: list, shown: list[Any]
    ) -> None:
        """Show what `work` makes of what was `asked` until it ends or is stopped."""
        running = gr.on(begins, work, asked, shown, show_progress="minimal")
        stop.click(None, cancels=running)
