"""Where a checkpoint lies: a folder as it is, or a hub id fetched into the local cache."""

import re
from pathlib import Path
from typing import Any

from emu3.errors import InputError

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"


# What huggingface_hub takes, and what people pass to other libraries' from_pretrained.
HUB_OPTIONS = ("revision", "cache_dir", "local_files_only", "force_download", "token")
LANGUAGE_FILES = (
    *(CONFIG, GENERATION_CONFIG, "*.safetensors", "model.safetensors.index.json"),
    *("emu3.tiktoken", "emu3_vision_tokens.txt", "tokenizer_config.json"),
)
VISION_FILES = (CONFIG, "preprocessor_config.json", "model.safetensors")
NOT_HERE = {
    "trust_remote_code": "code of a checkpoint is never run",
    "config": "config.json is read; give single fields by name",
    "torch_dtype": "say mindspore_dtype",
    "dtype": "say mindspore_dtype",
    "variant": "one set of weights a folder",
}


def take_hub_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take out of `options` those that say where files come from: for `checkpoint_folder`.

    Raises:
        InputError: one that has no meaning here.
    """
    for name, reason in NOT_HERE.items():
        if options.pop(name, None):
            raise InputError(f"{name} is not supported: {reason}; leave {name} out")
    names = (*HUB_OPTIONS, "subfolder")
    taken = {name: options.pop(name) for name in names if name in options}
    return {name: value for name, value in taken.items() if value not in (None, "")}


def checkpoint_folder(
    source: str | Path,
    patterns: list[str],
    flag: str = "--model",
    subfolder: str = "",
    **options: Any,
) -> Path:
    """The folder of `source`, a folder or a hub id ("owner/name") of which `patterns` are fetched.

    Without a network a hub id already in the cache still works. HF_ENDPOINT names a mirror.
    `subfolder` is below it; `options` are HUB_OPTIONS.

    Raises:
        InputError: neither a folder nor a hub id that can be reached; names `flag`.
    """
    inside = Path(subfolder)
    if inside.is_absolute() or ".." in inside.parts:
        raise InputError(f"subfolder {subfolder!r}; allowed: a folder below {source}")
    try:
        folder = Path(source).expanduser()
        found = folder.is_dir()
    except (RuntimeError, ValueError, OSError) as error:  # ~nobody, a zero byte, a long name
        raise InputError(f"{str(source)[:80]!r} is no folder: {error}; change {flag}") from None
    if found and "revision" in options:
        raise InputError(
            f"revision = {options['revision']!r}: folder {folder} has none; leave it out"
        )
    if found:
        return _below(folder, subfolder, flag)
    if folder.suffix == ".ckpt" and folder.is_file():
        raise InputError(f"{folder} is no folder: {to_convert(folder)}; change {flag}")
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise InputError(
            f"{str(source)!r} is no folder; allowed: a checkpoint folder or a hub id such as "
            f"BAAI/Emu3-Gen; change {flag}"
        )
    patterns = [f"{inside.as_posix()}/{pattern}" if subfolder else pattern for pattern in patterns]
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(str(source), allow_patterns=patterns, **options))
    # huggingface_hub raises errors of its own, of its HTTP library and OSErrors alike.
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{str(source)!r} is neither a folder here nor a hub id that can be fetched "
            f"({type(error).__name__}: {reason}); allowed: a checkpoint folder or a hub id such as "
            f"BAAI/Emu3-Gen; change {flag}, or HF_ENDPOINT for a mirror; {by_hand(flag)}"
        ) from None
    return _below(folder, subfolder, flag)


def to_convert(checkpoint: Path) -> str:
    """What to do with a checkpoint file of the original port."""
    return (
        f"a checkpoint of the original port becomes one that loads by `emu3 convert {checkpoint} "
        "--model MODEL_IT_BEGAN_WITH --output FOLDER`"
    )


def by_hand(flag: str) -> str:
    """What to do on a machine without a network: the files wanted, and where to put them."""
    names = VISION_FILES if flag == "--vq-model" else LANGUAGE_FILES
    return (
        f"without a network fetch {', '.join(names)} elsewhere, put them into one folder here and "
        f"give it as {flag}"
    )


def _below(folder: Path, subfolder: str, flag: str) -> Path:
    if not (folder / subfolder).is_dir():
        raise InputError(f"folder {folder} has no {subfolder}; change subfolder or {flag}")
    return folder / subfolder
