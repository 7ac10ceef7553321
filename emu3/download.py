"""A model's files from a hub to this machine: what there is, whether it fits, fetched, verified."""

import fnmatch
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from emu3.configfile import read_config
from emu3.errors import InputError, shown
from emu3.files import read_json
from emu3.hflayout import BOTH
from emu3.hub import CONFIG, GENERATION_CONFIG, by_hand
from emu3.hubs import HuggingFace, ModelScope, RemoteFile
from emu3.mllm.configuration_emu3 import Emu3Config
from emu3.mllm.tokenization_emu3 import TOKENIZER_FILES
from emu3.tokenizer.configuration_emu3visionvq import Emu3VisionVQConfig
from emu3.tokenizer.picture_options import PROCESSOR_FILE

WANTED = (
    *(CONFIG, GENERATION_CONFIG, "*.safetensors", "*.safetensors.index.json", "*.py"),
    *(*TOKENIZER_FILES, PROCESSOR_FILE),
)
KINDS = {
    Emu3Config.model_type: (Emu3Config,),
    Emu3VisionVQConfig.model_type: (Emu3VisionVQConfig,),
    BOTH: (Emu3Config, Emu3VisionVQConfig),
}
BLOCK = 2**24


@dataclass(frozen=True)
class Plan:
    """The files of a repository that a model is made of, and those of them that are not here."""

    wanted: Sequence[RemoteFile]
    absent: Sequence[RemoteFile]

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(file.size for file in self.wanted)

    @property
    def missing(self) -> int:
        """Bytes to fetch."""
        return sum(file.size for file in self.absent)


def plan(hub: HuggingFace | ModelScope) -> Plan:
    """What to fetch, once config.json has shown that the repository holds a model of ours.

    Raises:
        InputError: the hub cannot be reached, the repository holds no model of ours, or the disk
            has no room for it.
    """
    files = _asked(hub, hub.files)
    wanted = [file for file in files if any(fnmatch.fnmatch(file.name, w) for w in WANTED)]
    (config,) = [file for file in wanted if file.name == CONFIG] or [None]
    if config is None:
        raise InputError(f"{hub.page} holds no {CONFIG}; allowed: such as BAAI/Emu3-Gen")
    check_kind(_asked(hub, lambda: hub.fetch(config)).parent, hub.repository)
    made = Plan(wanted, [file for file in wanted if hub.here(file) is None])
    check_room(hub, made)
    return made


def check_kind(folder: Path, repository: str) -> None:
    """Refuse a repository whose config.json is not one of ours.

    Raises:
        InputError: it is another kind of model, or its values are impossible.
    """
    kind = read_json(folder / CONFIG).get("model_type")
    if kind not in KINDS:
        raise InputError(
            f"{repository} is of model_type {shown(kind)}; allowed: {', '.join(KINDS)}, such as "
            "BAAI/Emu3-Gen, -Chat, -Stage1 and -VisionTokenizer; nothing else was fetched"
        )
    for config_class in KINDS[kind]:
        read_config(config_class, folder, {}, "REPOSITORY")


def check_room(hub: HuggingFace | ModelScope, made: Plan) -> None:
    """Refuse to fetch more than the disk has room for.

    Raises:
        InputError: says how much is needed, and where.
    """
    place = hub.place
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if made.missing > free:
        raise InputError(
            f"{gigabytes(made.missing)} are to be fetched, {gigabytes(free)} are free in {place}; "
            "allowed: a disk with room; change --output, or HF_HOME for the cache"
        )


def fetch(hub: HuggingFace | ModelScope, made: Plan, told: Callable[[RemoteFile], None]) -> Path:
    """Fetch and verify every file; returns the folder. `told` hears of each that is done.

    Raises:
        InputError: the hub cannot be reached, or a file is not what the hub says; it is removed.
    """
    for file in made.wanted:
        path = _asked(hub, lambda file=file: hub.fetch(file))
        verify(path, file)
        told(file)
    return path.parents[len(Path(file.name).parts) - 1]


def verify(path: Path, file: RemoteFile) -> None:
    """Compare a file with what the hub says of it; small ones have a size alone.

    Raises:
        InputError: it differs, and is removed.
    """
    size = path.stat().st_size
    reason = f"{size} bytes instead of {file.size}" if size != file.size else None
    if reason is None and file.sha256 and sha256(path) != file.sha256:
        reason = f"another sha256 than {file.sha256}"
    if reason:
        path.resolve().unlink()  # the cache keeps files behind links
        path.unlink(missing_ok=True)
        raise InputError(f"{file.name} has {reason}; it is removed: run the command again")


def sha256(path: Path) -> str:
    """The digest of a file in hexadecimal."""
    digest, block = hashlib.sha256(), bytearray(BLOCK)
    with open(path, "rb") as file:
        while count := file.readinto(block):
            digest.update(memoryview(block)[:count])
    return digest.hexdigest()


def gigabytes(count: int) -> str:
    """Bytes in words, as hubs count them."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.2f} {name}"
    return f"{count} bytes"


def _asked(hub: HuggingFace | ModelScope, ask: Callable):
    """What `ask` returns.

    Raises:
        InputError: the hub does not answer; says which files to bring by hand.
    """
    try:
        return ask()
    except InputError:
        raise
    # huggingface_hub raises errors of its own, of its HTTP library and OSErrors alike.
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
        flag = "--vq-model" if "vision" in hub.repository.lower() else "--model"
        raise InputError(
            f"{hub.page} does not answer ({type(error).__name__}: {reason}); "
            "change REPOSITORY, --revision or --source, or HF_ENDPOINT for a mirror; "
            f"{by_hand(flag)}"
        ) from None
