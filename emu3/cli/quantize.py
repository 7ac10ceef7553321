"""A checkpoint's matrices in int8: `python -m emu3.cli.quantize MODEL FOLDER`.

The folder holds what MODEL holds, its matrices in 8 bits with a float32 scale for every group of
input columns (emu3/nn/forms.py), in as many files. It loads as any other, on CPU, in about a
quarter of the memory of float32. The result is approximate.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emu3.cli import shell
from emu3.errors import InputError
from emu3.options import option, path_text

BESIDE = (".json", ".txt", ".tiktoken", ".py")  # what else a usable folder holds


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    model: str = option(
        "language model: a folder or a hub id such as BAAI/Emu3-Gen",
        positional=True,
        kind=path_text,
        metavar="MODEL",
    )
    folder: str = option(
        "new folder for the result", positional=True, kind=path_text, metavar="FOLDER"
    )


def run(options: Options) -> None:
    """Write the folder, whole or not at all."""
    from emu3.configfile import read_config
    from emu3.hub import CONFIG, checkpoint_folder
    from emu3.mllm import Emu3Config, Emu3ForCausalLM

    patterns = [CONFIG, "*.json", "*.safetensors", *Emu3ForCausalLM.side_files, "*.py"]
    source = checkpoint_folder(options.model, patterns, "MODEL")
    config = read_config(Emu3Config, source, {}, "MODEL")
    if config.quantised:
        raise InputError(f"{source} is quantised already; allowed: plain weights; change MODEL")
    target = Path(options.folder)
    if target.exists():
        raise InputError(f"{target} exists; allowed: a new folder; change FOLDER")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    try:
        write(source, partial)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(target)


def write(source: Path, folder: Path) -> None:
    """Fill `folder` with the quantised checkpoint of `source`."""
    from emu3.configfields import QUANTISED
    from emu3.files import read_json, writable_folder, write_json
    from emu3.hflayout import LANGUAGE, published_entries, published_fields
    from emu3.hub import CONFIG
    from emu3.tensorfile import read_entries
    from emu3.weights import INDEX, weight_files, write_quantised

    writable_folder(folder, "FOLDER")
    total, table = 0, {}
    for path in progress(weight_files(source)):
        entries = published_entries(read_entries(path), LANGUAGE)
        written = write_quantised(entries, folder / path.name) if entries else {}
        table |= dict.fromkeys(written, path.name)
        total += sum(written.values())
    if len(set(table.values())) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": table})
    fields = published_fields(read_json(source / CONFIG), LANGUAGE)
    write_json(folder / CONFIG, fields | {"quantization_config": QUANTISED})
    for path in source.iterdir():
        written = path.name in (CONFIG, INDEX)
        if path.is_file() and not written and path.suffix in BESIDE:
            shutil.copyfile(path, folder / path.name)


def progress(paths: list[Path]) -> Iterator[Path]:
    """`paths`, with a bar on a terminal."""
    from tqdm import tqdm

    yield from tqdm(paths, unit="file", disable=None)


build_parser, main = shell.command(
    "emu3.cli.quantize", "Write a checkpoint's matrices in int8.", Options, run
)

if __name__ == "__main__":
    shell.leave(main())
