"""A small Hugging Face hub on this machine: the routes that fetching a data set uses, with headers, Range, gates and
failures. Content is given as {repository: {path: bytes}}; what was asked for is kept in `requests`."""

from __future__ import annotations

import json
import re
import threading
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_API = re.compile(r"/api/datasets/([^/]+/[^/]+)/(revision|tree|auth-check)(?:/([^/?]+))?$")
_FILE = re.compile(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")


class HubServer:
    """`gated`: repositories whose terms nobody has accepted. `cut`: path -> bytes after which the connection breaks,
    each time the file is asked for. `hang`: path -> bytes after which nothing more comes. `content_of`: path -> what is
    sent in place of the content. `down`: a status that is answered to everything. `entry_of`: path -> fields of its
    entry in the listing that are not the true ones."""

    def __init__(self, repos: dict[str, dict[str, bytes]], revision: str = "main") -> None:
        self.repos, self.revision = repos, revision
        self.gated: set[str] = set()
        self.cut: dict[str, int] = {}
        self.hang: dict[str, int] = {}
        self.content_of: dict[str, bytes] = {}
        self.entry_of: dict[str, dict[str, object]] = {}
        self.down: int | None = None
        self.requests: list[tuple[str, str, str | None]] = []
        self.tokens: list[str | None] = []
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def downloads(self) -> list[tuple[str, str | None]]:
        """(path, Range) of each file that was really sent."""
        files = ((_FILE.match(path), span) for method, path, span in self.requests if method == "GET")
        return [(match[3], span) for match, span in files if match]


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.server_hub, unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path, self.headers.get("Range")))
        hub.tokens.append(self.headers.get("Authorization"))
        if hub.down:
            return self._send(hub.down, b"{}")
        api, file = _API.match(path), _FILE.match(path)
        match = api or file
        if match is None:
            return self._send(404, b"{}")
        if match[1] not in hub.repos:
            return self._send(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        if match[1] in hub.gated and (file or match[2] == "auth-check"):
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        if file:
            return self._file(hub.content_of.get(file[3], hub.repos[file[1]].get(file[3])), file[3])
        if match[2] != "auth-check" and match[3] not in (hub.revision, COMMIT):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        entries = [_entry(*item) | hub.entry_of.get(item[0], {}) for item in hub.repos[match[1]].items()]
        answers = {"tree": entries, "auth-check": {}}
        info = {"id": match[1], "sha": COMMIT, "siblings": [], "private": False, "downloads": 0, "likes": 0, "tags": []}
        return self._send(200, json.dumps(answers.get(match[2], info)).encode())

    def _file(self, content: bytes | None, path: str) -> None:
        if content is None:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        status, start = 200, 0
        if span := self.headers.get("Range"):
            status, start = 206, int(span.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if (most := self.server_hub.hang.get(path)) is not None:
            self._send(status, content[start:], headers, cut=most)
            threading.Event().wait(60)
        return self._send(status, content[start:], headers, cut=self.server_hub.cut.get(path))

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True


def _entry(path: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
    if not path.endswith((".json", ".jsonl", ".md")):
        entry["lfs"] = {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


def _blob(content: bytes) -> str:
    """As git names a file's content."""
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()
