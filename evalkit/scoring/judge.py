"""A language model as judge, behind any OpenAI-compatible endpoint (a hosted one, or a local vLLM server).

Answers are cached on disk by the content of the request, so a judged run costs once, an interrupted one continues where
it stopped, and a rescore is free. The number of requests has a cap. The API key is named, not given: the settings hold
the name of an environment variable, which is read when a request is made; it is not stored, shown or logged.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from evalkit.errors import ConfigError, EvalkitError, RunError
from evalkit.paths import cache_dir

Message = Mapping[str, str]
Messages = Sequence[Message]
"""Chat messages: `[{"role": "system", "content": ...}, {"role": "user", "content": ...}]`."""

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_MAX_WAIT_S = 120.0
_MAX_BODY_BYTES = 16 * 2**20


class JudgeError(EvalkitError):
    """The judge cannot be asked, or does not answer. What it has answered so far is kept."""


class JudgeCount(NamedTuple):
    """What a set of requests would cost: answers at hand, and requests to be made (equal ones are made once)."""

    cached: int
    to_ask: int


@dataclass(frozen=True)
class JudgeSettings:
    """`base_url` as OpenAI's clients take it, ending in `/v1`. `api_key_env`: the *name* of the environment variable
    with the key; empty for a server that wants none. `max_calls`: requests this process may send, retries included.
    `extra`: further fields of the request body (`top_k`, `chat_template_kwargs`, ...)."""

    base_url: str
    model: str
    api_key_env: str = ""
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 1024
    timeout_s: float = 120.0
    retries: int = 5
    max_calls: int = 5000
    workers: int = 8
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ConfigError(
                f'judge.base_url="{shown_url(self.base_url)}" is no URL such as http://localhost:8000/v1.'
            )
        if url.username or url.password or url.query:
            raise ConfigError("judge.base_url must not hold credentials: name their variable in judge.api_key_env.")
        if not self.model:
            raise ConfigError("judge.model is empty: name the model that the endpoint serves.")
        if self.max_calls < 0 or self.retries < 0 or self.timeout_s <= 0 or self.workers < 1:
            raise ConfigError("judge: max_calls and retries must not be negative; timeout_s and workers are positive.")


@dataclass
class Judge:
    """Asks, retries, caches. Safe to use from several threads, and from several processes on one cache."""

    settings: JudgeSettings
    cache: Path | None = None
    sleep: Callable[[float], None] = time.sleep
    calls: int = field(default=0, init=False)
    _given_up: JudgeError | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def ask(self, messages: Messages) -> str:
        """The judge's reply to a chat. Raises JudgeError (endpoint, key, cap) and RunError (damaged cache)."""
        body = self._body(messages)
        path = self._path(body)
        reply = _read(path)
        if reply is None:
            if self._given_up is not None:
                raise self._given_up  # a whole run must not wait through every retry of every answer
            try:
                reply = self._post(body)
            except JudgeError as error:
                self._given_up = error
                raise
            _write(path, {"request": body, "endpoint": self.settings.base_url, "reply": reply})
        return reply

    def ask_many(self, chats: Iterable[Messages]) -> list[str]:
        """Replies in order, `workers` requests at a time. The first failure, or an interruption, stops the rest;
        answers that came are kept."""
        with ThreadPool(self.settings.workers) as pool:  # not an executor, which waits for what is under way
            return list(pool.imap(self.ask, chats))

    def count(self, chats: Iterable[Messages]) -> JudgeCount:
        """What `ask_many` would cost, without asking."""
        paths = {self._path(self._body(chat)) for chat in chats}
        cached = sum(path.exists() for path in paths)
        return JudgeCount(cached, len(paths) - cached)

    def _body(self, messages: Messages) -> dict[str, Any]:
        s = self.settings
        chat = [{"role": m["role"], "content": m["content"]} for m in messages]
        sampling = {"temperature": s.temperature, "top_p": s.top_p, "max_tokens": s.max_tokens}
        return {"model": s.model, "messages": chat, **sampling, **s.extra}

    def _path(self, body: Mapping[str, Any]) -> Path:
        """By endpoint and request: two servers may give one name to two models."""
        content = json.dumps([self.settings.base_url.rstrip("/"), body], sort_keys=True)
        key = hashlib.sha256(content.encode()).hexdigest()
        return (self.cache or cache_dir() / "judge") / key[:2] / f"{key}.json"

    def _key(self) -> str:
        name = self.settings.api_key_env
        if name and not os.environ.get(name):
            raise JudgeError(f"The judge needs an API key: set the environment variable {name}.")
        return os.environ.get(name, "") if name else ""

    def _count_call(self) -> None:
        with self._lock:
            if self.calls >= self.settings.max_calls:
                raise JudgeError(
                    f"The judge has been asked {self.calls} times, which is judge.max_calls. What was judged is kept: "
                    "raise judge.max_calls and run the same command again to go on from there."
                )
            self.calls += 1

    def _post(self, body: Mapping[str, Any]) -> str:
        key = self._key()
        for attempt in range(self.settings.retries + 1):
            self._count_call()
            try:
                return self._request(body, key)
            except _Retry as problem:
                if attempt == self.settings.retries:
                    raise JudgeError(
                        f"The judge {self.settings.model} at {self.settings.base_url} did not answer in "
                        f"{attempt + 1} attempts: {_redacted(str(problem), key)}. What was judged is kept: run the "
                        "same command again when the endpoint works."
                    ) from None
                self.sleep(problem.wait_s if problem.wait_s is not None else _back_off_s(attempt))
        raise AssertionError("unreachable")

    def _request(self, body: Mapping[str, Any], key: str) -> str:
        """One request. Raises _Retry for what may pass, JudgeError for what will not."""
        s = self.settings
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        deadline = time.monotonic() + s.timeout_s
        try:
            with httpx.stream(
                "POST", s.base_url.rstrip("/") + "/chat/completions", json=body, headers=headers, timeout=s.timeout_s
            ) as response:
                text = _read_body(response, deadline)
        except httpx.TimeoutException as error:
            raise _Retry(f"no reply within {s.timeout_s:g} s") from error
        except httpx.TransportError as error:
            raise _Retry(f"{type(error).__name__}: {error}") from error
        if response.status_code in _RETRIED:
            raise _Retry(f"HTTP {response.status_code}: {text[:200]}", _retry_after_s(response))
        if response.status_code != 200:
            raise JudgeError(
                f"The judge {s.model} at {s.base_url} refuses: HTTP {response.status_code}: "
                f"{_redacted(text[:500], key)}. Check judge.base_url, judge.model and judge.api_key_env."
            )
        return _content(text)


class _Retry(Exception):
    """Worth another attempt, after `wait_s` where the server says so."""

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def _read_body(response: httpx.Response, deadline: float) -> str:
    """The body, within the time and size that a sane reply has (httpx's timeout is for each read)."""
    chunks, size = [], 0
    for chunk in response.iter_bytes():
        chunks.append(chunk)
        size += len(chunk)
        if size > _MAX_BODY_BYTES:
            raise _Retry(f"a reply of more than {_MAX_BODY_BYTES >> 20} MiB")
        if time.monotonic() > deadline:
            raise _Retry("the reply did not end in time")
    return b"".join(chunks).decode("utf-8", "replace")


def _content(text: str) -> str:
    """The message of the first choice. An empty one is an answer (a reasoning model out of tokens, say)."""
    try:
        message = json.loads(text)["choices"][0]["message"]
        content = message["content"]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise _Retry(f"a reply that is no chat completion: {text[:200]!r}") from None
    if content is not None and not isinstance(content, str):
        raise _Retry(f"a message whose content is no text: {str(content)[:200]!r}")
    return content or ""


def _retry_after_s(response: httpx.Response) -> float | None:
    """`Retry-After` in seconds or as a date, within reason."""
    value = response.headers.get("retry-after", "")
    try:
        wait = float(value)
    except ValueError:
        try:
            wait = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(wait, 0.0), _MAX_WAIT_S) if wait == wait else None


def _back_off_s(attempt: int) -> float:
    return float(min(2.0**attempt, _MAX_WAIT_S)) * random.uniform(0.5, 1.0)


def _redacted(text: str, key: str) -> str:
    """Servers like to repeat the key that they refuse."""
    return text.replace(key, "<api key>") if key else text


def shown_url(url: str) -> str:
    """The URL without credentials and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.scheme else parts.path


def _read(path: Path) -> str | None:
    try:
        reply = json.loads(path.read_text(encoding="utf-8"))["reply"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, LookupError, TypeError):
        reply = None
    if not isinstance(reply, str):
        raise RunError(f"The cached judge answer {path} is damaged: delete it to ask again.")
    return reply


def _write(path: Path, entry: Mapping[str, Any]) -> None:
    """Whole or not at all, also when two processes write the same answer."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", encoding="utf-8", delete=False) as file:
            json.dump(entry, file, ensure_ascii=True, indent=1)
        Path(file.name).replace(path)
    except OSError as error:
        raise RunError(
            f"The judge's answer cannot be kept at {path}: {error.strerror}. Free the disk, or set EVALKIT_CACHE to a "
            "folder that can be written."
        ) from error
