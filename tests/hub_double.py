"""A double on loopback of both hubs: what Hugging Face and ModelScope say of one repository."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = "BAAI/Tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = ".safetensors"


class Hub:
    """The files it holds, what was asked, and what goes wrong.

    `cut` ends the first answer with that file after so many bytes; `wrong` gives other bytes.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked = files, []
        self.cut: dict[str, int] = {}
        self.wrong: set[str] = set()
        self.claimed: dict[str, int] = {}  # sizes told that are not so

    def answer(self, path: str) -> tuple[str, object]:
        """What a path means: ("list", JSON), ("file", name) or ("none", None)."""
        parts, query = urlsplit(path), parse_qs(urlsplit(path).query)
        if parts.path.startswith(f"/api/models/{REPOSITORY}"):
            return "list", {"id": REPOSITORY, "sha": COMMIT, "siblings": self._siblings()}
        if parts.path == f"/api/v1/models/{REPOSITORY}/repo/files":
            return "list", {"Code": 200, "Data": {"Files": self._entries()}}
        if parts.path == f"/api/v1/models/{REPOSITORY}/repo":
            return "file", query["FilePath"][0]
        prefix = f"/{REPOSITORY}/resolve/"
        if parts.path.startswith(prefix):
            return "file", unquote(parts.path[len(prefix) :].partition("/")[2])
        return "none", None

    def _siblings(self) -> list[dict]:
        found = []
        for name, content in self.files.items():
            size = self.claimed.get(name, len(content))
            one = {"rfilename": name, "size": size, "blobId": etag(content)}
            if name.endswith(LARGE):
                one["lfs"] = {"sha256": etag(content), "size": size, "pointerSize": 134}
            found.append(one)
        return found

    def _entries(self) -> list[dict]:
        files = [
            {"Path": name, "Type": "blob", "Sha256": etag(content),
             "Size": self.claimed.get(name, len(content))}
            for name, content in self.files.items()
        ]  # fmt: skip
        return [{"Path": "docs", "Type": "tree", "Size": 0}, *files]


def etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def handler_of(hub: Hub) -> type[BaseHTTPRequestHandler]:
    """The handler of requests to `hub`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments) -> None:
            pass

        def do_HEAD(self) -> None:
            self.respond(with_body=False)

        def do_GET(self) -> None:
            self.respond(with_body=True)

        def respond(self, with_body: bool) -> None:
            kind, what = hub.answer(self.path)
            if kind == "list":
                return self.send(200, json.dumps(what).encode(), {}, with_body)
            if kind == "none" or what not in hub.files:
                return self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"}, with_body)
            start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
            if with_body:
                hub.asked.append((what, start))
            content = hub.files[what]
            marks = {"ETag": f'"{etag(content)}"', "X-Repo-Commit": COMMIT}
            marks |= {"Accept-Ranges": "bytes"}
            if start:
                marks["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            body = bytes(len(content)) if what in hub.wrong else content
            return self.send(206 if start else 200, body[start:], marks, with_body, what)

        def send(self, code, body, marks, with_body, name=None) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for key, value in marks.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                cut = hub.cut.pop(name, None)
                self.wfile.write(body[:cut])
                self.close_connection = cut is not None

    return Handler


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The address of a server of `hub` on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(hub))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
