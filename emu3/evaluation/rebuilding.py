"""How well the vision tokenizer rebuilds pictures: PSNR, SSIM, and by a peer rFID and LPIPS.

OUTPUT/scores.csv               picture, PSNR in dB, SSIM, a row each
OUTPUT/original, OUTPUT/rebuilt the pictures as the model is shown them, and what it makes of them
OUTPUT/summary.json             the means
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from emu3 import bundled
from emu3.cli import options as shared
from emu3.cli.img_rec import closeness
from emu3.cli.outputs import Stopwatch, save_picture
from emu3.cli.room import require_room_for_pixels
from emu3.cli.shell import Interrupted
from emu3.errors import InputError, about
from emu3.evaluation.distances import PeerOptions, distances
from emu3.files import note_settings, own_folder, write_json
from emu3.images import open_image
from emu3.loading import load_vision
from emu3.options import group, option, path_text, whole
from emu3.pipeline import Reconstruction

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
HEAD = "picture,psnr,ssim\n"


@dataclass(frozen=True)
class Options:
    """Of `reconstruction`."""

    vq_model: str = shared.vision_model()
    images: str = option(
        "folder of pictures, with those of folders in it (default: a bundled clip's frames)",
        str(bundled.DEMO_CLIP),
        path_text,
        metavar="FOLDER",
    )
    output: str = option(
        "folder to write or go on with",
        "outputs/evaluation/reconstruction",
        path_text,
        metavar="FOLDER",
    )
    limit: int = option("only the first so many pictures, 0 for all", 0, whole(0, 10**7))
    tile: int | None = shared.tile()
    against: PeerOptions = group()
    device: shared.Device = group(leave_out=("attn_implementation",))


def run(options: Options) -> None:
    """Rebuild what is missing; print and save the means."""
    source, output = Path(options.images), own_folder(options.output)
    pictures = pictures_in(source)[: options.limit or None]
    options.device.start()
    from emu3.tokenizer import TiledVision, VisionCodec

    names = [str(path.relative_to(source).with_suffix(".png")) for path in pictures]
    places = {"vq_model": options.vq_model, "images": options.images}
    settings = {key: shared.public_name(place) for key, place in places.items()}
    note_settings(output, settings | {"tile": options.tile, "dtype": options.device.dtype})
    vision, processor = load_vision(options.vq_model, options.device.dtype)
    vision = TiledVision(vision, options.tile) if options.tile else vision
    desk = Desk(options, Reconstruction(VisionCodec(vision, processor)), output)
    watch = Stopwatch()
    try:
        for path, name in zip(tqdm(pictures, unit="picture"), names):
            desk.rebuild(path, name)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {output} is kept, the same command goes on") from None
    report(options, desk, names)
    print(watch.closing_line(f"{len(pictures)} picture(s)"))


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in and below a folder, sorted.

    Raises:
        InputError: it is none, holds no picture, or two that differ in their suffix alone.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; change --images")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise InputError(f"{folder} holds no picture ({', '.join(SUFFIXES)}); change --images")
    stems: dict[Path, Path] = {}
    for path in found:
        if (other := stems.setdefault(path.with_suffix(""), path)) != path:
            raise InputError(f"{other} and {path} are called the same; rename one")
    return found


class Desk:
    """Where pictures are rebuilt and scored, a row of scores.csv each."""

    def __init__(self, options: Options, rebuild: Reconstruction, output: Path) -> None:
        self.options, self.rebuilding, self.output = options, rebuild, output
        self.path = output / "scores.csv"
        self.scores = read_scores(self.path)
        with self.path.open("w", encoding="utf-8", newline="") as file:  # without a half row
            file.write(HEAD)
            csv.writer(file).writerows([name, *scores] for name, scores in self.scores.items())

    def rebuild(self, path: Path, name: str) -> None:
        """Rebuild and score a picture, unless that is done."""
        seen_path, rebuilt_path = (self.output / kind / name for kind in ("original", "rebuilt"))
        if name in self.scores and seen_path.exists() and rebuilt_path.exists():
            return
        config, options = self.rebuilding.codec.config, self.options
        picture = open_image(path, "--images")
        with about(path, "--images"):
            pixels = self.rebuilding.codec.pixels(picture)
            grid = tuple(side // config.spatial_scale_factor for side in pixels.shape[1:])
            require_room_for_pixels(config, grid, options.device.dtype, options.tile)
            codes, seen = self.rebuilding.encode_pixels(pixels)
        rebuilt = self.rebuilding.image(codes)
        save_picture(seen, {}, seen_path)
        save_picture(rebuilt, {}, rebuilt_path)
        self.scores[name] = closeness(seen, rebuilt)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([name, *self.scores[name]])


def read_scores(path: Path) -> dict[str, tuple[float, float]]:
    """What a command wrote before it was stopped: PSNR and SSIM by name."""
    scores = {}
    if path.exists():
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.reader(file):
                try:
                    name, *values = row
                    psnr, ssim = map(float, values)
                except ValueError:  # the head, or a row cut short
                    continue
                scores[name] = psnr, ssim
    return scores


def report(options: Options, desk: Desk, names: list[str]) -> None:
    """Print and save the means over the pictures of those names."""
    psnr, ssim = np.mean([desk.scores[name] for name in names], axis=0)
    print(f"PSNR {psnr:.2f} dB  SSIM {ssim:.4f}  mean of {len(names)} pictures")
    # JSON has no infinity, which the PSNR of equal pictures is.
    summary = {"pictures": len(names), "psnr": min(float(psnr), 1e9), "ssim": float(ssim)}
    if options.against.peer:
        folders = desk.output / "original", desk.output / "rebuilt"
        found = distances(options.against.peer_python, *folders)
        print(f"rFID {found['rfid']:.3f}  LPIPS {found['lpips']:.4f}  by {found['about']}")
        summary |= found
    write_json(desk.output / "summary.json", summary)
