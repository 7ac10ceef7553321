"""What the commands write: numbered files, codes (.npz) and pictures that carry their settings.

Legend: h w latent rows and columns, T latent frames. A code of -1 was never made.
"""

import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emu3 import __version__
from emu3.errors import InputError
from emu3.files import atomic_path, numbered_path, writable_folder

NOT_MADE = -1
GREY = 128
# What numpy raises for a file that is no .npz, or a damaged one; TypeError for an .npy file.
UNREADABLE = (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass
class Codes:
    """Codes (h, w) of a picture or (T, h, w) of a clip, int32, and how they were made."""

    codes: np.ndarray
    settings: dict = field(default_factory=dict)

    @property
    def finished_rows(self) -> int:
        """Rows of a picture (latent frames of a clip) before the first one that is not whole."""
        whole = (self.codes >= 0).reshape(len(self.codes), -1).all(axis=1)
        return int(np.argmin(whole)) if not whole.all() else len(whole)

    def require_codebook(self, size: int, path: Path) -> None:
        """Refuse codes of another vision tokenizer.

        Raises:
            InputError: names `path`.
        """
        if self.codes.max() >= size:
            raise InputError(
                f"{path} holds code {self.codes.max()}; allowed: below {size}, the codes of the "
                "vision tokenizer; change --vq-model"
            )

    def require_rows(self, path: Path) -> None:
        """Refuse codes of which nothing is finished.

        Raises:
            InputError: names `path`.
        """
        if not self.finished_rows:
            raise InputError(f"{path} holds no finished row yet; there is nothing to decode")

    def save(self, path: Path) -> None:
        """Write an .npz file, whole or not at all."""
        text = json.dumps(self.settings, ensure_ascii=False)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, codes=self.codes, settings=np.array(text))

    @classmethod
    def load(cls, path: str | Path) -> "Codes":
        """Read what `save` wrote.

        Raises:
            InputError: no such file, or not one of ours.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                codes, text = content["codes"], str(content["settings"])
            settings = json.loads(text)
        except UNREADABLE as error:
            raise InputError(
                f"{path} is no codes file: {error}; allowed: an .npz the commands saved"
            ) from None
        if codes.dtype.kind not in "iu" or codes.ndim not in (2, 3) or not codes.size:
            raise InputError(
                f"{path} holds {codes.dtype} codes of shape {codes.shape}; allowed: whole numbers "
                "(rows, columns) or (frames, rows, columns)"
            )
        return cls(codes.astype(np.int32), settings)


def new_file(folder: Path, stem: str, suffix: str, write: Callable[[Path], None]) -> Path:
    """Write `folder/stem_NNNN.suffix` under the first free number, even beside other processes."""
    path = _claim(folder, stem, suffix, lambda path: path.touch(exist_ok=False))
    try:
        write(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def new_folder(folder: Path, stem: str) -> Path:
    """Make `folder/stem_NNNN` under the first free number."""
    return _claim(folder, stem, "", lambda path: path.mkdir())


def _claim(folder: Path, stem: str, suffix: str, make: Callable[[Path], None]) -> Path:
    while True:
        path = numbered_path(writable_folder(folder), stem, suffix)
        try:
            make(path)
        except FileExistsError:
            continue
        return path


def save_picture(image, settings: dict, path: Path) -> None:
    """Write a PIL image as PNG with `settings` as its metadata, one key each."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", f"Emu3-MindSpore {__version__}")
    for key, value in settings.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        info.add_itxt(key, text)
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=info)


def decode_picture(codes: np.ndarray, vision, image_processor):
    """Codes (h, w), at least one row of them finished, as a PIL image; the other rows are grey."""
    from mindspore import Tensor, int32

    rows = Codes(codes).finished_rows
    padded = np.pad(codes[:rows], ((0, len(codes) - rows), (0, 0)), mode="edge")
    pixels = vision.decode(Tensor(padded[None], int32))
    image = image_processor.postprocess(pixels)["pixel_values"][0]
    if rows < len(codes):
        top = image.height * rows // len(codes)
        image.paste((GREY, GREY, GREY), (0, top, image.width, image.height))
    return image
