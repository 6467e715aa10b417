"""A chat endpoint on this machine for tests. It answers by a script, slowly or byte by byte where the test says so."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def completion(text: str | None, **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice], **more}).encode()


class Endpoint(ThreadingHTTPServer):
    """Answers each request by the next of `script` (status, body, headers), the last for ever; keeps what was asked.

    `reply`: what answers a request's body, in place of the script. `models`: the entries of GET /v1/models; None: there
    is no such list. `delay_s`: before the reply. `drip_s`: between the bytes of the body. `drip_headers_s`: between the
    bytes of the headers. `breaks_off`: the connection is closed in the middle of the body.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, bytes, dict[str, str]]] = [(200, completion("yes"), {})]
        self.reply: Callable[[dict[str, Any]], bytes] | None = None
        self.models: list[dict[str, Any]] | None = None
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.headers: list[dict[str, str]] = []
        self.delay_s = self.drip_s = self.drip_headers_s = 0.0
        self.breaks_off = False
        self.most_at_once = self.at_once = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints nothing: clients in these tests close connections."""


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append({"path": self.path, **body})
            server.keys.append(self.headers.get("Authorization"))
            server.headers.append(dict(self.headers))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            status, reply, headers = server.script.pop(0) if len(server.script) > 1 else server.script[0]
            if server.reply is not None and status == 200:
                reply = server.reply(body)
        time.sleep(server.delay_s)
        with server.lock:
            server.at_once -= 1
        lines = [f"{name}: {value}" for name, value in {**headers, "Content-Length": str(len(reply))}.items()]
        self._send(f"HTTP/1.1 {status} x\r\n{chr(10).join(lines)}\r\n\r\n".encode(), server.drip_headers_s)
        if server.breaks_off:
            self._send(reply[: len(reply) // 2], 0)
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self._send(reply, server.drip_s)
        self.close_connection = True

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.keys.append(self.headers.get("Authorization"))
        known = self.server.models if self.path == "/v1/models" else None
        body = json.dumps({"object": "list", "data": known}).encode()
        status = 404 if known is None else 200
        self._send(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body, 0)
        self.close_connection = True

    def _send(self, data: bytes, pause_s: float) -> None:
        if not pause_s:
            self.wfile.write(data)
            return
        for byte in data:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            time.sleep(pause_s)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
