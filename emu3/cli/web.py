"""The web page: `emu3 web`, then http://127.0.0.1:8000 in a browser.

The HTTP interface of `emu3 serve` answers beside it, under /v1. It listens on this machine alone
unless --host says otherwise. Nothing is kept unless --save says where.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from emu3.cli import options as shared
from emu3.cli import serve, shell
from emu3.files import own_folder
from emu3.options import option, path_text

NEEDED = (*serve.NEEDED, "gradio")
USER = "emu3"  # who logs in with the key, where there is one


@dataclass(frozen=True)
class Options(serve.Options):
    """What the command line asks for."""

    save: str | None = option(
        "folder that keeps the pictures made (default: none is kept)",
        None,
        path_text,
        metavar="FOLDER",
    )


def run(options: Options) -> None:
    """Load the models, then show the page until Ctrl-C."""
    serve.require_installed(NEEDED)
    save = own_folder(options.save) if options.save else None
    with tempfile.TemporaryDirectory(prefix="emu3-web-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # where files lie while they are used
        app = serve.application(options, serve.load(options))
        mounted = mount(app, options, Path(folder), save)
        serve.listen(mounted, options, f"the page is at {serve.address(options.serving)}")


def mount(app, options: Options, uploads: Path, save: Path | None):
    """The application with the page at its root; what is sent and shown lies in `uploads`."""
    import gradio as gr

    from emu3.web.handlers import Page
    from emu3.web.page import make_page
    from emu3.web.tidying import keep_tidy
    from emu3.web.words import WORDS

    keep_tidy(uploads)
    serving, words = options.serving, gr.I18n(**WORDS)
    limits = serve.limits_of(serving)
    page = Page(app.state.models, app.state.worker, limits, uploads, save)
    return gr.mount_gradio_app(
        app,
        make_page(page, shared.model_name(options.model), words),
        path="/",
        auth=(USER, serving.key) if serving.key else None,
        max_file_size=limits.body,
        show_api=False,
        i18n=words,
    )


build_parser, main = shell.command("emu3.cli.web", "Show the web page.", Options, run)

if __name__ == "__main__":
    shell.leave(main())
