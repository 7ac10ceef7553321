"""Codes to pixels, later: `python -m emu3.cli.decode outputs/image_0000.npz`.

Decodes what img_gen and img_rec saved, also a picture that Ctrl-C cut short: its finished rows are
decoded, the others stay grey.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from emu3.cli import clips, common
from emu3.cli.outputs import Codes, decode_picture, new_file, new_folder, save_picture
from emu3.files import writable_folder


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = common.make_parser("decode", "Decode saved codes (.npz) into PNG files.")
    parser.add_argument("codes", nargs="+", metavar="CODES", help=".npz files of img_gen, img_rec")
    common.add_vision_option(parser)
    parser.add_argument(
        "--output", metavar="FOLDER", help="folder for the pictures (default: beside each file)"
    )
    common.add_tile_option(parser)
    clips.add_animation_option(parser)
    common.add_device_options(parser, attention=False)
    return parser


def run(options: argparse.Namespace) -> None:
    """Decode every file; prints what was written."""
    jobs = [(Path(name), Codes.load(name)) for name in options.codes]
    for path, content in jobs:
        content.require_rows(path)
    folders = [writable_folder(options.output or path.parent) for path, _ in jobs]
    common.start_device(options)
    vision, image_processor = common.load_vision(options)
    for path, content in jobs:
        content.require_codebook(vision.config.codebook_size, path)
    vision = common.tiled(vision, options)
    watch = common.Stopwatch()
    for (path, content), folder in zip(jobs, folders):
        stem = f"{path.stem}_decoded"
        if content.codes.ndim == 2:
            image = decode_picture(content.codes, vision, image_processor)
            print(new_file(folder, stem, ".png", partial(save_picture, image, content.settings)))
            continue
        target = new_folder(folder, stem)
        files = [file for file, _ in clips.write_frames(target, content, vision, image_processor)]
        clips.write_animation(files, target, options.animation, content.settings.get("fps"))
        print(target)
    print(watch.closing_line(f"{len(jobs)} file(s) decoded"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.run_command(run, build_parser(), arguments)


if __name__ == "__main__":
    common.leave(main())
