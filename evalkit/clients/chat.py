"""A client of chat endpoints with OpenAI's interface: hosted models, or a local vLLM server.

The official `openai` package sends the requests. On top of it, this client sets one deadline for each request (the
package has none for a server that sends its reply byte by byte), counts requests against a spending limit, and tells an
endpoint that cannot work (wrong key, nobody listening) from a request that failed. `openai` is imported with the first
request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import re
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from evalkit.errors import ConfigError, EvalkitError

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError, AsyncOpenAI

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_REFUSING = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405})
_MAX_WAIT_S = 120.0
_MAX_CONNECT_S = 30.0
_MAX_BODY_BYTES = 16 * 2**20
_MAX_FAILURES_IN_A_ROW = 10
_HTTP_CLIENTS = ("httpx", "httpx2")  # of one release of openai or another; each has exceptions of its own
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY_PREFIX = re.compile(r"(sk|pk|rk|hf|gsk|xai|nvapi|pplx|r8|AIza)[-_]?[A-Za-z0-9]*[0-9a-z]")


class ChatError(EvalkitError):
    """A request to a chat endpoint failed. No message holds the API key."""


class EndpointError(ChatError):
    """This request failed, also when it was repeated; another one may succeed."""


class EndpointStopped(ChatError):
    """This client sends no more requests. Its subclasses say why."""


class EndpointRefused(EndpointStopped):
    """The endpoint answers, but not to this key, this model or this URL. Repeating the request would not help."""


class EndpointUnreachable(EndpointStopped):
    """No connection, or many requests in a row without a usable reply."""


class CallLimitReached(EndpointStopped):
    """`max_calls` requests have been sent."""


@dataclass(frozen=True)
class ChatSettings:
    """Where and how to ask.

    `base_url`: as OpenAI's clients take it, ending in `/v1`.
    `model`: the name under which the endpoint serves the model.
    `api_key_env`: the *name* of the environment variable with the key; empty for a server that needs none.
    `timeout_s`: for one request, from the connection to the last byte of the reply.
    `retries`: how often a request is repeated after a failure that may pass.
    `max_calls`: requests that one client may send, repeated ones included.
    """

    base_url: str
    model: str
    api_key_env: str = ""
    timeout_s: float = 120.0
    retries: int = 5
    max_calls: int = 5000

    def check(self, group: str) -> None:
        """Raise ConfigError for a setting that cannot work; `group` is its prefix in messages: `judge.base_url`."""
        check_variable_name(self.api_key_env, f"{group}.api_key_env")
        try:
            url = urlsplit(self.base_url)
            valid = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
        except ValueError:
            raise ConfigError(f"{group}.base_url is not a URL such as http://localhost:8000/v1.") from None
        if not valid:
            raise ConfigError(
                f'{group}.base_url="{shown_url(self.base_url)}" is not a URL such as http://localhost:8000/v1.'
            )
        if url.username or url.password or url.query:
            raise ConfigError(
                f"{group}.base_url must not hold credentials: put the key into an environment variable and name that "
                f"in {group}.api_key_env."
            )
        if not self.model:
            raise ConfigError(f"{group}.model is empty: name the model that the endpoint serves.")
        if self.max_calls < 0 or self.retries < 0 or not 0 < self.timeout_s < float("inf"):
            raise ConfigError(f"{group}: max_calls and retries must not be negative, and timeout_s must be positive.")


def check_variable_name(name: str, setting: str) -> None:
    """Raise ConfigError, without repeating the value, where a key was given in place of a variable's name."""
    long_token = len(name) >= 20 and any(c.isdigit() for c in name) and (name != name.upper() or "_" not in name)
    if name and (not _VARIABLE_NAME.fullmatch(name) or _KEY_PREFIX.match(name) or long_token):
        raise ConfigError(
            f"{setting} must be the name of an environment variable, such as OPENAI_API_KEY, and looks like a key "
            "itself. Put the key into a variable (export OPENAI_API_KEY=...) and give the variable's name. A key that "
            "was typed on a command line may stand in the shell's history."
        )


def shown_url(url: str) -> str:
    """The URL without credentials and query, for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.scheme else parts.path


@dataclass(frozen=True)
class ChatReply:
    """`text`: of the first choice; empty where the endpoint sent none. `finish`: the endpoint's own word (stop, length,
    content_filter, ...). Token counts are the endpoint's; 0 where it does not say."""

    text: str
    finish: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChatClient:
    """Sends chats and returns replies. `complete` may be called from many threads at once.

    `role` names the client in messages and is the prefix of its settings there: "judge" or "model".
    `sleep`: how to wait before a request is repeated; None waits, and `stop` ends the wait.
    """

    def __init__(
        self, settings: ChatSettings, role: str = "model", sleep: Callable[[float], object] | None = None
    ) -> None:
        settings.check(role)
        self.settings = settings
        self.role = role
        self.calls = 0
        self._sleep = sleep
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._running: set[Future[ChatReply]] = set()
        self._stopped: EndpointStopped | None = None
        self._stop_waiting = threading.Event()
        self._failures_in_a_row = 0

    def complete(self, messages: Sequence[Mapping[str, Any]], **parameters: Any) -> ChatReply:
        """The model's reply to a chat.

        `messages`: as the interface defines them; a message's content is text or a list of text and image parts.
        `parameters`: further fields of the request (temperature, max_tokens, ...).
        Raises EndpointError (this request failed) or EndpointStopped (no further request will be sent).
        """
        for attempt in range(self.settings.retries + 1):
            self._count_call()
            try:
                reply = self._send(messages, parameters)
            except _Transient as failure:
                if attempt == self.settings.retries:
                    raise self._failed(failure) from None
                self._wait(failure.wait_s if failure.wait_s is not None else _backoff_s(attempt))
            except EndpointStopped as error:
                raise self._stop(error) from None
            else:
                self._failures_in_a_row = 0
                return reply
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """End the requests under way and send no more: the run was interrupted."""
        self._stop(EndpointStopped(f"The {self.role} was stopped."))
        with self._lock:
            running = list(self._running)
        for future in running:
            future.cancel()

    @property
    def _name(self) -> str:
        return f"The {self.role} {self.settings.model} at {self.settings.base_url}"

    def _count_call(self) -> None:
        with self._lock:
            if self._stopped is None and self.calls >= self.settings.max_calls:
                self._stopped = CallLimitReached(
                    f"The {self.role} has been asked {self.calls} times, which is {self.role}.max_calls. Its replies "
                    f"are kept: raise {self.role}.max_calls and run the same command again to continue from there."
                )
            if self._stopped is not None:
                raise type(self._stopped)(str(self._stopped))
            self.calls += 1

    def _stop(self, error: EndpointStopped) -> EndpointStopped:
        with self._lock:
            self._stopped = self._stopped or error
        self._stop_waiting.set()
        return error

    def _wait(self, seconds: float) -> None:
        if self._sleep is not None:
            self._sleep(seconds)
        else:
            self._stop_waiting.wait(seconds)

    def _failed(self, failure: _Transient) -> ChatError:
        """The error of a request that failed `retries` + 1 times."""
        message = f"{self._name} did not answer in {self.settings.retries + 1} attempts: {failure}."
        with self._lock:
            self._failures_in_a_row += 1
            many = self._failures_in_a_row >= _MAX_FAILURES_IN_A_ROW
        if not failure.unreachable and not many:
            return EndpointError(message)
        why = f" The last {_MAX_FAILURES_IN_A_ROW} requests failed." if many and not failure.unreachable else ""
        return self._stop(
            EndpointUnreachable(
                f"{message}{why} Check {self.role}.base_url and the server; replies that came are kept, and the same "
                "command continues."
            )
        )

    def _send(self, messages: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]) -> ChatReply:
        """One request, on the connection's event loop. Ctrl-C and `stop` cancel it."""
        connection = self._connect()
        future = asyncio.run_coroutine_threadsafe(connection.ask(messages, parameters), connection.loop)
        with self._lock:
            self._running.add(future)
            if self._stop_waiting.is_set():
                future.cancel()
        try:
            return future.result()
        except CancelledError:
            raise self._stopped or EndpointStopped(f"The {self.role} was stopped.") from None
        except BaseException:
            future.cancel()
            raise
        finally:
            with self._lock:
                self._running.discard(future)

    def _connect(self) -> _Connection:
        with self._lock:
            if self._connection is None or self._connection.process != os.getpid():  # a fork has no event loop
                self._connection = _Connection(self.settings, self._key(), self._name, self.role)
                weakref.finalize(self, self._connection.close).atexit = False
            return self._connection

    def _key(self) -> str:
        name = self.settings.api_key_env
        key = os.environ.get(name, "").strip() if name else ""
        if name and not key:
            raise EndpointRefused(f"The {self.role} needs an API key: set the environment variable {name}.")
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise EndpointRefused(
                f"The environment variable {name} does not hold an API key: it has characters that no key has."
            )
        return key


class _Transient(Exception):
    """A failure that may pass. `wait_s`: how long the server asks to wait. `unreachable`: there was no connection."""

    def __init__(self, message: str, wait_s: float | None = None, unreachable: bool = False) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.unreachable = unreachable


class _Connection:
    """An event loop in a thread of its own, and the `openai` client that runs on it. Cancelling a task there ends a
    request wherever it is; a blocking read in a thread could not be ended."""

    def __init__(self, settings: ChatSettings, key: str, name: str, role: str) -> None:
        self.settings, self.name, self.role = settings, name, role
        self.process = os.getpid()
        self._secret = key
        self._client, self._headers = _client(settings, key), _headers(key)
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=_run, args=(self.loop,), name=f"{role} requests", daemon=True).start()

    def close(self) -> None:
        with suppress(RuntimeError):  # closed already
            self.loop.call_soon_threadsafe(self.loop.stop)

    async def ask(self, messages: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]) -> ChatReply:
        """One request within `timeout_s`. Raises _Transient, EndpointError or EndpointRefused."""
        from openai import APIConnectionError, APIStatusError

        chat: Any = messages
        try:
            async with asyncio.timeout(self.settings.timeout_s):
                async with self._client.chat.completions.with_streaming_response.create(
                    model=self.settings.model,
                    messages=chat,
                    extra_body=dict(parameters),
                    extra_headers=self._headers,
                ) as response:
                    body = await _body(response.iter_bytes())
        except TimeoutError:
            raise _Transient(f"no complete reply within {self.settings.timeout_s:g} s") from None
        except APIStatusError as error:
            raise self._status_error(error) from None
        except APIConnectionError as error:
            raise self._connection_error(error) from None
        except UnicodeError:
            raise EndpointError(f"{self.name} cannot be asked: the request holds text that is not Unicode.") from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in _HTTP_CLIENTS:
                raise
            raise _Transient(f"the reply broke off ({type(error).__name__})") from None
        return self._reply(body)

    def _status_error(self, error: APIStatusError) -> Exception:
        status, text = error.status_code, self._redacted(error.response.text)
        if status == 429 and error.code == "insufficient_quota":
            return EndpointRefused(f"{self.name} refuses: the account has no credit left ({text[:200]}).")
        if status in _RETRIED:
            return _Transient(f"HTTP {status}: {text[:200]}", _retry_after_s(error.response.headers))
        if status in _REFUSING:
            return EndpointRefused(
                f"{self.name} refuses: HTTP {status}: {text[:500]}. Check {self.role}.base_url, {self.role}.model and "
                f"{self.role}.api_key_env."
            )
        return EndpointError(f"{self.name} does not accept this request: HTTP {status}: {text[:500]}")

    def _connection_error(self, error: APIConnectionError) -> _Transient:
        cause = error.__cause__ or error
        kind = type(cause).__name__  # by name: releases of openai bring different HTTP clients
        return _Transient(
            f"{kind}: {self._redacted(str(cause))}", unreachable=kind in ("ConnectError", "ConnectTimeout")
        )

    def _reply(self, body: bytes) -> ChatReply:
        """The first choice. An empty text is a reply (of a model that spent its tokens on thinking, say)."""
        text = body.decode("utf-8", "replace")
        try:
            completion = json.loads(text)
            choice = completion["choices"][0]
            content = choice["message"]["content"]
        except (ValueError, RecursionError, LookupError, TypeError):
            raise _Transient(f"a reply that is not a chat completion: {self._redacted(text)[:200]!r}") from None
        if content is not None and not isinstance(content, str):
            raise _Transient(f"a message whose content is not text: {self._redacted(str(content))[:200]!r}")
        usage = completion.get("usage")
        return ChatReply(
            self._redacted(content or ""),
            str(choice.get("finish_reason") or ""),
            _count(usage, "prompt_tokens"),
            _count(usage, "completion_tokens"),
        )

    def _redacted(self, text: str) -> str:
        """Some servers repeat the key that they refuse."""
        return text.replace(self._secret, "<api key>") if self._secret else text


def _client(settings: ChatSettings, key: str) -> AsyncOpenAI:
    """Without the package's own repetitions, which count against no limit. The proxy variables of the environment
    hold. The transport's debug messages are off: they show response headers, where a server may repeat the key."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

    for transport in ("httpcore", "httpcore2"):
        logging.getLogger(transport).setLevel(logging.INFO)

    return AsyncOpenAI(
        base_url=settings.base_url,
        api_key=key or "none",
        max_retries=0,
        timeout=Timeout(
            None, connect=min(_MAX_CONNECT_S, settings.timeout_s / 2)
        ),  # see `_Connection.ask` for the rest
        http_client=DefaultAsyncHttpxClient(follow_redirects=False),
    )


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _headers(key: str) -> dict[str, Any]:
    """Each request has a connection of its own: one that was kept open may have been closed by the server. OpenAI's
    variables (OPENAI_ORG_ID, ...) are left out, as they would go to whatever endpoint is set."""
    from openai import Omit

    headers: dict[str, Any] = {"Connection": "close", "OpenAI-Organization": Omit(), "OpenAI-Project": Omit()}
    return headers if key else {**headers, "Authorization": Omit()}


async def _body(chunks: AsyncIterator[bytes]) -> bytes:
    """The body, up to the size of a sane reply."""
    parts, size = [], 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > _MAX_BODY_BYTES:
            raise _Transient(f"a reply of more than {_MAX_BODY_BYTES >> 20} MiB")
    return b"".join(parts)


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The header `Retry-After`, in seconds or as a date, from 0 to `_MAX_WAIT_S`; None where it is missing."""
    value = headers.get("retry-after", "")
    try:
        wait = float(value)
    except ValueError:
        try:
            wait = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(wait, 0.0), _MAX_WAIT_S) if wait == wait else None


def _backoff_s(attempt: int) -> float:
    return float(min(2.0**attempt, _MAX_WAIT_S)) * random.uniform(0.5, 1.0)
