"""Pixels to codes and back: `python -m emu3.cli.img_rec --input photo.png --input clip.mp4`.

An input is an image, a folder of frames or a video file. Its codes are saved first, then the
rebuilt pixels, and PSNR and SSIM say how close they come to the input as the model sees it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emu3.cli import clips, common, flags
from emu3.cli.outputs import Codes, decode_picture, new_file, save_picture
from emu3.errors import InputError
from emu3.files import writable_folder

EXAMPLES = (common.ASSETS / "demo.png", common.ASSETS / "demo_clip")


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = common.make_parser("img_rec", "Encode images and clips into codes and rebuild them.")
    parser.add_argument(
        "--input",
        action="append",
        metavar="PATH",
        help="an image, a folder of frames or a video file; may be given several times "
        "(default: a bundled image and a bundled clip)",
    )
    common.add_vision_option(parser)
    parser.add_argument(
        "--output",
        default="outputs",
        metavar="FOLDER",
        help="folder for codes and pictures, numbered rec_0000 ... (default: %(default)s)",
    )
    parser.add_argument(
        "--clip-frames",
        type=flags.positive_int,
        default=4,
        metavar="N",
        help="frames coded together, a multiple of the model's 4; more share context over time "
        "and need more memory (default: %(default)s)",
    )
    common.add_tile_option(parser)
    clips.add_animation_option(parser)
    common.add_device_options(parser, attention=False)
    return parser


def run(options: argparse.Namespace) -> None:
    """Rebuild every input; prints files, PSNR and SSIM."""
    inputs = [Path(path) for path in options.input or EXAMPLES]
    for path in inputs:
        if not path.exists():
            raise InputError(f"no image, folder or video {path}; change --input")
    folder = writable_folder(options.output)
    common.start_device(options)
    vision, image_processor = common.load_vision(options)
    studio = Reconstruction(options, common.tiled(vision, options), image_processor, folder)
    watch = common.Stopwatch()
    for path in inputs:
        studio.clip(path) if clips.FrameSource.is_clip(path) else studio.image(path)
    print(watch.closing_line(f"{len(inputs)} input(s) rebuilt"))


class Reconstruction:
    """The vision tokenizer, and how an input goes through it and back."""

    def __init__(self, options, vision, image_processor, folder: Path) -> None:
        factor = vision.config.temporal_downsample_factor
        if options.clip_frames % factor:
            raise InputError(
                f"{options.clip_frames} frames a clip; allowed: multiples of {factor}; "
                "change --clip-frames"
            )
        self.options = options
        self.vision = vision
        self.image_processor = image_processor
        self.folder = folder

    def image(self, path: Path) -> None:
        """Rebuild one image."""
        from mindspore import Tensor

        picture = common.open_image(path, "--input")
        with common.about(path, "--input"):
            pixels = self.image_processor(picture, return_tensors="np")["pixel_values"]
        codes = self.vision.encode(Tensor(pixels)).asnumpy()[0]
        content = Codes(codes, self._settings(path))
        target = new_file(self.folder, "rec", ".npz", content.save).with_suffix(".png")
        rebuilt = decode_picture(codes, self.vision, self.image_processor)
        save_picture(rebuilt, content.settings, target)
        report(str(target), [closeness(self._seen(pixels)[0], rebuilt)])

    def clip(self, path: Path) -> None:
        """Rebuild a clip: all codes first, then the frames, a few at a time."""
        source = clips.FrameSource(path)
        content, codes_path = self._encoded(source)
        folder = codes_path.with_suffix("")
        folder.mkdir()
        written = clips.write_frames(folder, content, self.vision, self.image_processor)
        chunks = clips.pixel_chunks(source, self.image_processor, self.options.clip_frames)
        originals = (frame for chunk in chunks for frame in self._seen(chunk))
        files, scores = [], []
        for original, (file, frame) in zip(originals, written):
            files.append(file)
            scores.append(closeness(original, frame))
        clips.write_animation(files, folder, self.options.animation, content.settings["fps"])
        report(str(folder), scores)

    def _encoded(self, source: clips.FrameSource) -> tuple[Codes, Path]:
        """The clip's codes and the file they are saved in, also when Ctrl-C cuts it short.

        Raises:
            common.Interrupted: after Ctrl-C, once the codes made so far are saved.
        """
        parts, frames, interrupted = [], 0, False
        chunks = clips.pixel_chunks(source, self.image_processor, self.options.clip_frames)
        try:
            for pixels in tqdm(chunks, desc="encode", unit="chunk"):
                codes = clips.encode_chunk(pixels, self.vision)
                parts.append(codes)
                frames += len(pixels)
        except KeyboardInterrupt:
            interrupted = True
        if not parts:
            if interrupted:
                raise common.Interrupted(common.kept_message([], self.options.vq_model))
            raise InputError(f"{source.path} holds no frame; change --input")
        extra = {"frames": frames, "clip_frames": self.options.clip_frames, "fps": source.fps()}
        content = Codes(np.concatenate(parts), self._settings(source.path) | extra)
        path = new_file(self.folder, "rec", ".npz", content.save)
        if interrupted:
            raise common.Interrupted(common.kept_message([path], self.options.vq_model))
        return content, path

    def _seen(self, pixels: np.ndarray) -> list:
        """Pixel values (b, 3, h, w) as the PIL images the model was shown."""
        return self.image_processor.postprocess(pixels)["pixel_values"]

    def _settings(self, path: Path) -> dict:
        options = self.options
        return {"input": str(path), "vq_model": options.vq_model, "tile": options.tile}


def closeness(original, rebuilt) -> tuple[float, float]:
    """PSNR in dB and SSIM of two PIL images of one size."""
    from emu3.metrics import psnr, ssim

    first, second = np.asarray(original), np.asarray(rebuilt)
    return psnr(first, second), ssim(first, second)


def report(name: str, scores: list[tuple[float, float]]) -> None:
    """Print the scores of each frame, if there are several, and their mean."""
    if len(scores) > 1:
        for number, (psnr, ssim) in enumerate(scores):
            print(f"  frame {number:5d}  PSNR {psnr:.2f} dB  SSIM {ssim:.4f}")
    psnr, ssim = np.mean(scores, axis=0)
    print(f"{name}  PSNR {psnr:.2f} dB  SSIM {ssim:.4f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return common.run_command(run, build_parser(), arguments)


if __name__ == "__main__":
    common.leave(main())
