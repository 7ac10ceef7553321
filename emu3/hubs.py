"""The two hubs that hold Emu3's files: what a repository holds, and one file of it at a time.

Both list names with sizes and, for large files, sha256; both go on where a transfer was cut.
"""

import http.client
import os
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emu3.errors import InputError, shown
from emu3.files import parse_object, writable_folder

CHUNK = 2**20
LISTING_BYTES = 2**26
TIMEOUT = 30  # seconds without a byte
TRIES = 5


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its name below the top, bytes, and sha256 where the hub tells it."""

    name: str
    size: int
    sha256: str | None


class HuggingFace:
    """Hugging Face or a mirror of it, by huggingface_hub: into its cache, or a folder.

    HF_ENDPOINT names the mirror, HF_TOKEN who asks.
    """

    def __init__(self, repository: str, revision: str | None, folder: Path | None) -> None:
        self.repository, self.revision, self.folder = repository, revision, folder
        self.commit: str | None = None  # what the revision stands for
        self.endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"

    @property
    def page(self) -> str:
        """Where a browser finds the files."""
        return f"{self.endpoint}/{self.repository}/tree/{self.revision or 'main'}"

    @property
    def place(self) -> Path:
        """The folder that is filled."""
        if self.folder is not None:
            return self.folder
        from huggingface_hub.constants import HF_HUB_CACHE

        return Path(HF_HUB_CACHE)

    def files(self) -> list[RemoteFile]:
        """Every file of the repository."""
        from huggingface_hub import HfApi

        told = HfApi(endpoint=self.endpoint).model_info(
            self.repository, revision=self.revision, files_metadata=True
        )
        self.commit = told.sha
        return [
            RemoteFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
            for file in told.siblings
        ]

    def here(self, file: RemoteFile) -> Path | None:
        """The file if an earlier download brought it."""
        if self.folder is not None:
            path = self.folder / file.name
            return path if path.is_file() else None
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, file.name, revision=self.commit)
        return Path(found) if isinstance(found, str) else None

    def fetch(self, file: RemoteFile) -> Path:
        """The file, brought here if it is not."""
        for _ in range(TRIES - 1):
            try:
                return self._fetch(file)
            # huggingface_hub's HTTP library differs from version to version, so do its errors.
            except Exception as error:
                if not _was_cut(error):
                    raise
        return self._fetch(file)

    def _fetch(self, file: RemoteFile) -> Path:
        from huggingface_hub import hf_hub_download

        return Path(
            hf_hub_download(
                self.repository,
                file.name,
                revision=self.revision,
                endpoint=self.endpoint,
                local_dir=self.folder,
            )
        )


def _was_cut(error: Exception) -> bool:
    """Whether a transfer may go on after this: neither the hub's nor the disk's refusal."""
    from huggingface_hub.errors import HfHubHTTPError

    return not isinstance(error, HfHubHTTPError) and getattr(error, "errno", None) is None


class ModelScope:
    """ModelScope by its HTTP interface, into a folder; MODELSCOPE_ENDPOINT names another host."""

    def __init__(self, repository: str, revision: str | None, folder: Path) -> None:
        self.repository, self.revision, self.place = repository, revision or "master", folder
        self.endpoint = os.environ.get("MODELSCOPE_ENDPOINT") or "https://www.modelscope.cn"

    @property
    def page(self) -> str:
        """Where a browser finds the files."""
        return f"{self.endpoint}/models/{self.repository}/files"

    def files(self) -> list[RemoteFile]:
        """Every file of the repository.

        Raises:
            InputError: an answer that lists none.
        """
        address = self._address("repo/files", Recursive="true")
        with _opened(address) as answer:
            told = parse_object(answer.read(LISTING_BYTES), address, "try again or --source")
        data = told.get("Data")
        listed = data.get("Files") if isinstance(data, dict) else None
        if not isinstance(listed, list):
            raise InputError(f"{address} lists no files: {shown(told.get('Message'))}")
        return [_listed(entry) for entry in listed if entry.get("Type") != "tree"]

    def here(self, file: RemoteFile) -> Path | None:
        """The file if an earlier download brought it."""
        path = self.place / file.name
        return path if path.is_file() else None

    def fetch(self, file: RemoteFile) -> Path:
        """The file, brought here if it is not."""
        path = self.place / file.name
        if not path.is_file():
            address = self._address("repo", FilePath=file.name)
            fetch_resuming(address, path, file.size)
        return path

    def _address(self, what: str, **query: str) -> str:
        words = urllib.parse.urlencode({"Revision": self.revision, **query})
        return f"{self.endpoint}/api/v1/models/{self.repository}/{what}?{words}"


def _listed(entry: dict[str, Any]) -> RemoteFile:
    return RemoteFile(entry["Path"], int(entry.get("Size") or 0), entry.get("Sha256") or None)


def fetch_resuming(
    address: str, path: Path, size: int, told: Callable[[int], None] = lambda count: None
) -> None:
    """Write what `address` gives to `path`, going on after what an earlier try left.

    What is not whole yet is `.NAME.part` beside it; `told` hears of bytes as they come.

    Raises:
        OSError: the connection ended early `TRIES` times without a byte, or more came than `size`.
    """
    part = writable_folder(path.parent) / f".{path.name}.part"
    idle = 0
    while (have := part.stat().st_size if part.exists() else 0) < size or not part.exists():
        try:
            with _opened(address, have) as answer, open(part, "ab") as file:
                if answer.status != http.client.PARTIAL_CONTENT:
                    file.truncate(0)
                while block := answer.read(CHUNK):
                    file.write(block)
                    told(len(block))
        except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = error
        else:
            reason = "the answer ended early"
        now = part.stat().st_size if part.exists() else 0
        idle = idle + 1 if now <= have and now < size else 0
        if idle == TRIES:
            raise OSError(f"{address}: {reason}")
    os.replace(part, path)


def _opened(address: str, start: int = 0) -> http.client.HTTPResponse:
    headers = {"User-Agent": "emu3"} | ({"Range": f"bytes={start}-"} if start else {})
    request = urllib.request.Request(address, headers=headers)
    return urllib.request.urlopen(request, timeout=TIMEOUT)
