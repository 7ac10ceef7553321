"""Pixels to codes and back: `python -m emu3.cli.img_rec --input photo.png --input clip.mp4`.

An input is an image, a folder of frames or a video file. Its codes are saved first, then the
rebuilt pixels, and PSNR and SSIM say how close they come to the input as the model sees it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emu3 import bundled
from emu3.cli import options as shared
from emu3.cli import shell
from emu3.cli.outputs import (
    Stopwatch,
    kept_message,
    new_file,
    save_picture,
    write_animation,
    write_frames,
)
from emu3.cli.room import require_room_for_pixels
from emu3.codesfile import Codes
from emu3.errors import InputError, about
from emu3.files import own_folder
from emu3.images import DEFAULT_FPS, FrameSource, open_image
from emu3.loading import load_vision
from emu3.options import group, option, path_text, whole
from emu3.pipeline import Reconstruction, in_lists


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    input: list[str] | None = option(
        "an image, a folder of frames or a video file; may be given several times "
        "(default: a bundled image and a bundled clip)",
        None,
        path_text,
        metavar="PATH",
    )
    vq_model: str = shared.vision_model()
    output: str = option(
        "folder for codes and pictures, numbered rec_0000 ...",
        "outputs",
        path_text,
        metavar="FOLDER",
    )
    clip_frames: int | None = option(
        "frames coded together, a multiple of the model's 4; more share context over time and "
        "need more memory (default: what the vision tokenizer states, else 4)",
        None,
        whole(1, 10_000),
    )
    tile: int | None = shared.tile()
    animation: str = shared.animation()
    device: shared.Device = group(leave_out=("attn_implementation",))

    def __post_init__(self) -> None:
        if any(self.clips):  # and paths that lead to nothing are refused at once
            shared.require_animation(self.animation)

    @property
    def inputs(self) -> list[Path]:
        """What to rebuild."""
        return [Path(path) for path in self.input or (bundled.DEMO_IMAGE, bundled.DEMO_CLIP)]

    @cached_property
    def clips(self) -> list[bool]:
        """Whether each input is a clip, by its content.

        Raises:
            InputError: no file and no folder.
        """
        return [FrameSource.is_clip(path) for path in self.inputs]


def run(options: Options) -> None:
    """Rebuild every input; prints files, PSNR and SSIM."""
    folder = own_folder(options.output)
    options.device.start()
    from emu3.tokenizer import TiledVision, VisionCodec

    vision, image_processor = load_vision(options.vq_model, options.device.dtype)
    vision = TiledVision(vision, options.tile) if options.tile else vision
    rebuild = Reconstruction(VisionCodec(vision, image_processor), options.clip_frames)
    studio, watch = Studio(options, rebuild, folder), Stopwatch()
    for path, clip in zip(options.inputs, options.clips):
        studio.clip(path) if clip else studio.image(path)
    print(watch.closing_line(f"{len(options.inputs)} input(s) rebuilt"))


class Studio:
    """How an input becomes files: codes, then pixels."""

    def __init__(self, options: Options, rebuild: Reconstruction, folder: Path) -> None:
        self.options, self.rebuild, self.folder = options, rebuild, folder

    def image(self, path: Path) -> None:
        """Rebuild one image."""
        picture = open_image(path, "--input")
        with about(path, "--input"):
            pixels = self.rebuild.codec.pixels(picture)
            self._require_room(pixels)
            codes, seen = self.rebuild.encode_pixels(pixels)
        content = Codes(codes, self._settings(path))
        target = new_file(self.folder, "rec", ".npz", content.save).with_suffix(".png")
        rebuilt = self.rebuild.image(codes)
        save_picture(rebuilt, content.settings, target)
        report(str(target), [closeness(seen, rebuilt)])

    def clip(self, path: Path) -> None:
        """Rebuild a clip: all codes first, then the frames, a few at a time."""
        source = FrameSource(path)
        content, codes_path = self._encoded(source)
        folder = codes_path.with_suffix("")
        folder.mkdir()
        frames = self.rebuild.frames(content.codes, content.settings["frames"])
        files, scores = [], []
        for original, (file, frame) in zip(
            self._seen(source), write_frames(folder, frames, content.settings)
        ):
            files.append(file)
            scores.append(closeness(original, frame))
        write_animation(files, folder, self.options.animation, content.settings["fps"])
        report(str(folder), scores)

    def _encoded(self, source: FrameSource) -> tuple[Codes, Path]:
        """The clip's codes and the file they are saved in, also when Ctrl-C cuts it short.

        Raises:
            shell.Interrupted: after Ctrl-C, once the codes made so far are saved.
        """
        parts, count, interrupted = [], 0, False
        try:
            chunks = self.rebuild.encode_clip(self._checked(source))
            for codes, frames in tqdm(chunks, desc="encode", unit="chunk"):
                parts.append(codes)
                count += frames
        except KeyboardInterrupt:
            interrupted = True
        if not parts:
            if interrupted:
                raise shell.Interrupted(kept_message([], self.options.vq_model))
            raise InputError(f"{source.path} holds no frame; change --input")
        extra = {
            "frames": count,
            "clip_frames": self.rebuild.clip_frames,
            "fps": source.fps() or DEFAULT_FPS,
        }
        content = Codes(np.concatenate(parts), self._settings(source.path) | extra)
        path = new_file(self.folder, "rec", ".npz", content.save)
        if interrupted:
            raise shell.Interrupted(kept_message([path], self.options.vq_model))
        return content, path

    def _seen(self, source: FrameSource) -> Iterator:
        """The frames as the model is shown them."""
        codec = self.rebuild.codec
        for chunk in in_lists(frame_pixels(source, codec), self.rebuild.clip_frames):
            yield from codec.seen(np.stack(chunk))

    def _checked(self, source: FrameSource) -> Iterator[np.ndarray]:
        """The pixel values of a clip's frames, once it is clear that a chunk has room."""
        for number, pixels in enumerate(frame_pixels(source, self.rebuild.codec)):
            if number == 0:
                with about(source.path, "--input"):
                    self._require_room(pixels, self.rebuild.clip_frames)
            yield pixels

    def _require_room(self, pixels: np.ndarray, frames: int = 1) -> None:
        """Refuse pixel values (3, H, W), so many frames together, that memory cannot hold."""
        config, options = self.rebuild.codec.config, self.options
        grid = tuple(side // config.spatial_scale_factor for side in pixels.shape[1:])
        together = -(-frames // config.temporal_downsample_factor)
        remedy = "a smaller picture, a lower --clip-frames, --tile"
        require_room_for_pixels(config, grid, options.device.dtype, options.tile, together, remedy)

    def _settings(self, path: Path) -> dict:
        names = {"input": str(path), "vq_model": self.options.vq_model}
        return {key: shared.public_name(name) for key, name in names.items()} | {
            "tile": self.options.tile
        }


def frame_pixels(source: FrameSource, codec) -> Iterator[np.ndarray]:
    """Pixel values (3, h, w) of each frame.

    Raises:
        InputError: a frame is no picture to code, or has another size than the first.
    """
    size, shape = None, None
    for number, frame in enumerate(source.frames()):
        with about(source.name(number), "--input"):
            array = codec.pixels(frame)
        size, shape = size or frame.size, shape or array.shape
        if array.shape != shape:
            sizes = " and ".join(f"{width}x{height}" for width, height in (size, frame.size))
            raise InputError(
                f"frames of {source.path} have sizes {sizes}, the latter {source.name(number)}; "
                "allowed: one size; change --input"
            )
        yield array


def closeness(original, rebuilt) -> tuple[float, float]:
    """PSNR in dB and SSIM of two PIL images of one size."""
    from emu3.metrics import psnr, ssim

    first, second = np.asarray(original), np.asarray(rebuilt)
    return psnr(first, second), ssim(first, second)


def report(name: str, scores: list[tuple[float, float]]) -> None:
    """Print the scores of a picture, or a clip's mean and those of its worst frame."""
    told = shown(*np.mean(scores, axis=0))
    if len(scores) > 1:
        worst = min(range(len(scores)), key=lambda number: scores[number])
        told += f"  mean of {len(scores)} frames; frame {worst}, the worst: {shown(*scores[worst])}"
    print(f"{name}  {told}")


def shown(psnr: float, ssim: float) -> str:
    """Scores in words."""
    return f"PSNR {psnr:.2f} dB  SSIM {ssim:.4f}"


build_parser, main = shell.command(
    "emu3.cli.img_rec", "Encode images and clips into codes and rebuild them.", Options, run
)

if __name__ == "__main__":
    shell.leave(main())
