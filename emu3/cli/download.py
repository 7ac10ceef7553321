"""Fetch a model from a hub: `python -m emu3.cli.download BAAI/Emu3-Gen`.

Sizes come first, config.json is read before anything large, what was fetched before is kept, and
every file is compared with what the hub says of it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from emu3.cli import shell
from emu3.errors import InputError, shown
from emu3.names import check_name
from emu3.options import option, path_text

SOURCES = ("huggingface", "modelscope")


@dataclass(frozen=True)
class Options:
    """What the command line asks for.

    Raises:
        InputError: no id of a repository, or a source that nobody knows.
    """

    repository: str = option(
        "such as BAAI/Emu3-Gen or BAAI/Emu3-VisionTokenizer", positional=True, metavar="REPOSITORY"
    )
    source: str = option("huggingface (HF_ENDPOINT names a mirror) or modelscope", "huggingface")
    output: str | None = option(
        "folder for the files (default: the hub's cache, where --model finds them by id; for "
        "modelscope models/REPOSITORY)",
        None,
        path_text,
        metavar="FOLDER",
    )
    revision: str | None = option("branch, tag or commit (default: the newest)")

    def __post_init__(self) -> None:
        check_name("source", self.source, SOURCES, "--source")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repository):
            raise InputError(
                f"{shown(self.repository)} is no repository; allowed: OWNER/NAME, such as "
                "BAAI/Emu3-Gen"
            )


def run(options: Options) -> None:
    """Say what is fetched, fetch it, and say how to use it."""
    from emu3.download import fetch, gigabytes, plan

    hub = hub_of(options)
    made = plan(hub)
    print(
        f"{options.repository} from {options.source}: {len(made.wanted)} files, "
        f"{gigabytes(made.size)}, of which {gigabytes(made.missing)} are to be fetched into "
        f"{hub.place}",
        flush=True,
    )

    def told(file) -> None:
        how = "size and sha256" if file.sha256 else "size"
        print(f"{file.name}: {gigabytes(file.size)}, {how} as stated", flush=True)

    folder = fetch(hub, made, told)
    folder = options.output or folder
    cached = options.output is None and options.source == "huggingface"
    place = options.repository if cached and options.revision is None else folder
    print(f"complete: {folder}\nuse it as --model or --vq-model {place}")


def hub_of(options: Options):
    """The hub that the options name."""
    from emu3.hubs import HuggingFace, ModelScope

    if options.source == "huggingface":
        folder = None if options.output is None else Path(options.output)
        return HuggingFace(options.repository, options.revision, folder)
    folder = Path(options.output or f"models/{options.repository}")
    return ModelScope(options.repository, options.revision, folder)


build_parser, main = shell.command(
    "emu3.cli.download", "Fetch a model from a hub, and verify it.", Options, run
)

if __name__ == "__main__":
    shell.leave(main())
