"""A language model as judge, behind any endpoint with OpenAI's chat interface (a hosted one, or a local vLLM server).

Judgements are cached on disk by the content of the request: a judged run costs once, an interrupted one continues where
it stopped, and a rescore is free. `max_calls` limits the requests of a run.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from evalkit.clients.chat import ChatClient
from evalkit.clients.endpoint import ChatSettings, check_variable_name
from evalkit.errors import ConfigError, RunError
from evalkit.model import NEUTRAL
from evalkit.paths import cache_dir

Message = Mapping[str, str]
Messages = Sequence[Message]
"""Chat messages: `[{"role": "system", "content": ...}, {"role": "user", "content": ...}]`."""


class JudgeCount(NamedTuple):
    """What a set of requests would cost: judgements in the cache, and requests to send (equal ones are sent once)."""

    cached: int
    to_ask: int


@dataclass
class JudgeSettings:
    """The keys of `task.judge`. Without a `base_url` there is no judge.

    `base_url`: as OpenAI's clients take it, ending in `/v1`.
    `model`: the name under which the endpoint serves the judge.
    `api_key_env`: the *name* of the environment variable with the key; empty for a server that needs none.
    `extra`: further fields of the request body (`top_k`, `chat_template_kwargs`, ...).
    `timeout_s`: for one request. `retries`: of a request that failed in a way that may pass.
    `max_calls`: requests that a run may send, repeated ones included. `workers`: replies that are judged at once.
    """

    base_url: str = ""
    model: str = ""
    api_key_env: str = field(default="", metadata=NEUTRAL)
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 1024
    extra: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = field(default=120.0, metadata=NEUTRAL)
    retries: int = field(default=5, metadata=NEUTRAL)
    max_calls: int = field(default=5000, metadata=NEUTRAL)
    workers: int = field(default=8, metadata=NEUTRAL)

    def __post_init__(self) -> None:
        check_variable_name(self.api_key_env, "judge.api_key_env")
        if self.base_url:
            self.endpoint().check("judge")
        elif self.model:
            raise ConfigError("judge.model is set without judge.base_url: name the endpoint that serves it.")
        if self.workers < 1:
            raise ConfigError(f"judge.workers={self.workers}: give the number of requests at a time, at least 1.")

    def endpoint(self) -> ChatSettings:
        return ChatSettings(self.base_url, self.model, self.api_key_env, self.timeout_s, self.retries, self.max_calls)


def _everything(reply: str) -> bool:
    return True


@dataclass
class Judge:
    """Asks and caches. Safe to use from several threads, and from several processes on one cache.

    `cache`: the folder of the judgements; None: `$EVALKIT_CACHE/judge`. `sleep`: see `ChatClient`.
    """

    settings: JudgeSettings
    cache: Path | None = None
    sleep: Callable[[float], object] | None = None
    client: ChatClient = field(init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _locks: WeakValueDictionary[Path, _Lock] = field(default_factory=WeakValueDictionary, init=False, repr=False)
    _refused: dict[Path, str] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.client = ChatClient(self.settings.endpoint(), "judge", self.sleep)

    @property
    def calls(self) -> int:
        """Requests sent so far."""
        return self.client.calls

    def ask(self, messages: Messages, accepted: Callable[[str], bool] = _everything) -> str:
        """The judge's reply to a chat.

        A reply that `accepted` is false of is asked for once more. If the second one is no better it is returned, but
        not cached: a later run asks again.

        Raises ChatError (endpoint, key, limit of calls) and RunError (the cache cannot be written).
        """
        body = self._body(messages)
        path = self._path(body)
        with self._one_at_a_time(path):
            reply = self._refused.get(path)
            if reply is not None:
                return reply
            reply = _read(path)
            for _ in range(2 if reply is None else 1):
                if reply is not None and accepted(reply):
                    break
                reply = self._post(body)
                if accepted(reply):
                    _write(path, {"request": body, "endpoint": self.settings.base_url, "reply": reply})
            assert reply is not None
            if not accepted(reply):
                self._refused[path] = reply
            return reply

    def count(self, chats: Iterable[Messages]) -> JudgeCount:
        """What asking these chats would cost, without asking."""
        paths = {self._path(self._body(chat)) for chat in chats}
        cached = sum(_read(path) is not None for path in paths)
        return JudgeCount(cached, len(paths) - cached)

    def stop(self) -> None:
        """End the requests under way, and send no more: the run was interrupted."""
        self.client.stop()

    def _post(self, body: Mapping[str, Any]) -> str:
        parameters = {name: value for name, value in body.items() if name not in ("model", "messages")}
        return self.client.complete(body["messages"], **parameters).text

    def _body(self, messages: Messages) -> dict[str, Any]:
        s = self.settings
        chat = [{"role": m["role"], "content": _unicode(m["content"])} for m in messages]
        sampling = {"temperature": s.temperature, "top_p": s.top_p, "max_tokens": s.max_tokens}
        return {"model": s.model, "messages": chat, **sampling, **s.extra}

    def _path(self, body: Mapping[str, Any]) -> Path:
        """By endpoint and request: two servers may give one name to two models."""
        content = json.dumps([self.settings.base_url.rstrip("/"), body], sort_keys=True)
        key = hashlib.sha256(content.encode()).hexdigest()
        return (self.cache or cache_dir() / "judge") / key[:2] / f"{key}.json"

    def _one_at_a_time(self, path: Path) -> _Lock:
        """The lock of one request: equal requests of several threads are sent once."""
        with self._lock:
            return self._locks.setdefault(path, _Lock())


class _Lock:
    """A lock that a weak dictionary can hold."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def _unicode(text: str) -> str:
    """The text without halves of surrogate pairs, which cannot be sent: a reply may be cut inside a character."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _read(path: Path) -> str | None:
    """The cached reply; None where there is none. A damaged entry is deleted: the judge is asked again."""
    try:
        reply = json.loads(path.read_text(encoding="utf-8"))["reply"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, LookupError, TypeError, RecursionError, OSError):
        reply = None
    if isinstance(reply, str):
        return reply
    with suppress(OSError):
        path.unlink()
    return None


def _write(path: Path, entry: Mapping[str, Any]) -> None:
    """Whole or not at all, also when two processes write the same answer."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", encoding="utf-8", delete=False) as file:
            json.dump(entry, file, ensure_ascii=True, indent=1)
        Path(file.name).replace(path)
    except OSError as error:
        raise RunError(
            f"The judge's reply cannot be kept at {path}: {error.strerror}. Free the disk, or set EVALKIT_CACHE to a "
            "folder that can be written."
        ) from error
