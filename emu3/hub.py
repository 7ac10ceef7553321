"""Where a checkpoint lies: a folder as it is, or a hub id fetched into the local cache."""

import re
from pathlib import Path

from emu3.errors import InputError

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"


def checkpoint_folder(source: str | Path, patterns: list[str], flag: str = "--model") -> Path:
    """The folder of `source`, a folder or a hub id ("owner/name") of which `patterns` are fetched.

    Without a network a hub id already in the cache still works. HF_ENDPOINT names a mirror.

    Raises:
        InputError: neither a folder nor a hub id that can be reached; names `flag`.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise InputError(
            f"{str(source)!r} is no folder; allowed: a checkpoint folder or a hub id such as "
            f"BAAI/Emu3-Gen; change {flag}"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source), allow_patterns=patterns))
    # huggingface_hub raises errors of its own, of its HTTP library and OSErrors alike.
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{str(source)!r} is neither a folder here nor a hub id that can be fetched "
            f"({type(error).__name__}: {reason}); allowed: a checkpoint folder or a hub id such as "
            f"BAAI/Emu3-Gen; change {flag}, or HF_ENDPOINT for a mirror"
        ) from None
