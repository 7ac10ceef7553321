"""A feature folder's owner: one command at a time, with one vision tokenizer, and no leftovers."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from emu3.errors import InputError
from emu3.files import own_folder, read_json, write_json
from emu3.locks import locked_folder

if TYPE_CHECKING:
    from emu3.tokenizer import Emu3VisionVQModel

ENCODING = "encoding.json"
OLD_TEMPORARY = re.compile(r"\..+\.\w+\.(ckpt|json|txt|tmp)")  # as older versions named them


@contextmanager
def owned_folder(path: str | Path, flag: str) -> Iterator[Path]:
    """Hold the feature folder `path` for the block, without what a killed command left in it.

    Raises:
        InputError: it cannot be written, or another process is writing it.
    """
    with locked_folder(path, flag) as folder:
        for place in (folder, folder / "feature", folder / "list"):
            if place.is_dir():
                _remove_temporaries(own_folder(place, flag))
        yield folder


def _remove_temporaries(folder: Path) -> None:
    for path in folder.glob(".*"):
        if OLD_TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def lists_of(folder: Path) -> list[Path]:
    """The lists of a feature folder, sorted; hidden files are none."""
    found = (folder / "list").glob("*.json")
    return sorted(path for path in found if not path.name.startswith("."))


def encoding_of(vision: "Emu3VisionVQModel") -> dict[str, int | str]:
    """What tells codes of this vision tokenizer from another's."""
    table = vision.quantize.embedding.weight.float().asnumpy()
    return {
        "codebook_size": len(table),
        "codebook_sha256": hashlib.sha256(table.tobytes()).hexdigest(),
    }


def claim_folder(folder: Path, encoding: dict[str, int | str], flags: str) -> None:
    """Note in `folder/encoding.json` which vision tokenizer made its codes.

    Raises:
        InputError: it was another one, whose codes mean other pixels.
    """
    path = folder / ENCODING
    if not path.exists():
        write_json(path, encoding)
    elif read_json(path, f"change {flags}") != encoding:
        raise InputError(
            f"the features in {folder} were made with another vision tokenizer or dtype; "
            f"allowed: the same one; change {flags}"
        )


def check_one_encoding(lists: Iterable[Path], flag: str) -> None:
    """Check that the features of several lists were made by one vision tokenizer.

    Lists of folders that do not say, as other writers' do not, pass.

    Raises:
        InputError: two folders say different things; names both.
    """
    first, said = None, None
    for path in lists:
        note = path.parent.parent / ENCODING
        if not note.is_file():
            continue
        found = read_json(note, f"change {flag}")
        if first is None:
            first, said = note, found
        elif found != said:
            raise InputError(
                f"{first} and {note} differ: the codes of one vision tokenizer mean other pixels "
                f"to another; allowed: features of one; prepare one folder again, or change {flag}"
            )
