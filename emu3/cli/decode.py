"""Codes to pixels, later: `python -m emu3.cli.decode outputs/image_0000.npz`.

Decodes what img_gen and img_rec saved, also a picture that Ctrl-C cut short: its finished rows are
decoded, the others stay grey.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from emu3.cli import options as shared
from emu3.cli import shell
from emu3.cli.outputs import (
    Stopwatch,
    new_file,
    new_folder,
    save_picture,
    write_animation,
    write_frames,
)
from emu3.cli.room import require_room_for_pixels
from emu3.codesfile import Codes
from emu3.errors import about
from emu3.files import own_folder
from emu3.images import DEFAULT_FPS
from emu3.loading import load_vision
from emu3.options import group, option, path_text
from emu3.tokenizer.codes import finished_rows


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    codes: list[str] = option(
        ".npz files of img_gen, video, edit, img_rec",
        kind=path_text,
        positional=True,
        nargs="+",
        metavar="CODES",
    )
    vq_model: str = shared.vision_model()
    output: str | None = option(
        "folder for the pictures (default: beside each file)", None, path_text, metavar="FOLDER"
    )
    tile: int | None = shared.tile()
    animation: str = shared.animation()
    device: shared.Device = group(leave_out=("attn_implementation",))

    def __post_init__(self) -> None:
        if any(content.codes.ndim == 3 for _, content in self.jobs):
            shared.require_animation(self.animation)

    @cached_property
    def jobs(self) -> list[tuple[Path, Codes]]:
        """Each file and what it holds.

        Raises:
            InputError: it cannot be read, or nothing of it is finished.
        """
        jobs = [(Path(name), Codes.load(name)) for name in self.codes]
        for path, content in jobs:
            content.require_rows(path)
        return jobs


def run(options: Options) -> None:
    """Decode every file; prints what was written."""
    jobs = options.jobs
    folders = [own_folder(options.output or path.parent) for path, _ in jobs]
    options.device.start()
    from emu3.tokenizer import TiledVision, VisionCodec

    vision, image_processor = load_vision(options.vq_model, options.device.dtype)
    for path, content in jobs:
        content.require_codebook(vision.config.codebook_size, path)
        with about(path, "the file"):
            grid = content.codes.shape[-2:]
            require_room_for_pixels(vision.config, grid, options.device.dtype, options.tile)
    vision = TiledVision(vision, options.tile) if options.tile else vision
    codec, watch = VisionCodec(vision, image_processor), Stopwatch()
    for (path, content), folder in zip(jobs, folders):
        stem, settings = f"{path.stem}_decoded", content.settings
        if content.codes.ndim == 2:
            image = codec.picture(content.codes)
            print(new_file(folder, stem, ".png", partial(save_picture, image, settings)))
            continue
        target = new_folder(folder, stem)
        files = [file for file, _ in write_frames(target, frames(codec, content), settings)]
        write_animation(files, target, options.animation, settings.get("fps", DEFAULT_FPS))
        print(target)
    print(watch.closing_line(f"{len(jobs)} file(s) decoded"))


def frames(codec, content: Codes):
    """The frames of a clip, as many as were encoded, in the chunks they were encoded in.

    Latent frames that are not whole are left out, and frames that were put before the first one.
    """
    factor = codec.config.temporal_downsample_factor
    codes = content.codes[: finished_rows(content.codes)]
    count = min(content.settings.get("frames", len(codes) * factor), len(codes) * factor)
    together = content.settings.get("clip_frames")
    together = together and max(factor, together // factor * factor)
    chunks = codec.frames(codes, count, together)
    shown = (frame for chunk in chunks for frame in chunk)
    yield from itertools.islice(shown, content.settings.get("added", 0), None)


build_parser, main = shell.command(
    "emu3.cli.decode", "Decode saved codes (.npz) into PNG files.", Options, run
)

if __name__ == "__main__":
    shell.leave(main())
