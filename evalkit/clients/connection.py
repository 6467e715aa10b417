"""Requests to a chat endpoint through the `openai` package, each with one deadline.

The package's own timeouts are for single reads: a server that sends its reply byte by byte never exceeds them. Here the
request is a task of an event loop that runs in a thread of its own, and is cancelled at the deadline wherever it is.
`openai` is imported with the first connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Container, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from evalkit.clients.endpoint import ChatSettings, EndpointError, EndpointRefused

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError, AsyncOpenAI

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529})
_REFUSING = frozenset({301, 302, 303, 307, 308, 401, 402, 403, 404, 405})
_ABSENT = frozenset({404, 405, 501})
"""Statuses of an endpoint that has no list of models."""
_MAX_CONNECT_S = 30.0
_MAX_BODY_BYTES = 16 * 2**20
_HTTP_CLIENTS = ("httpx", "httpx2")  # of one release of openai or another; each has exceptions of its own
MAX_WAIT_S = 120.0
"""The longest wait before a request is repeated, whatever the server asks for."""


@dataclass(frozen=True)
class ChatReply:
    """The first choice of a completion.

    `text`: empty where the endpoint sent none. `finish`: why the text ends, in the endpoint's word (stop, length,
    content_filter, ...). Token counts are the endpoint's; 0 where it gives none. `model`: the model that the endpoint
    says it used, often more exact than the name it was asked for; empty where it says none.
    """

    text: str
    finish: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    model: str = ""


class TransientFailure(Exception):
    """A failure that may pass. `wait_s`: how long the server asks to wait. `unreachable`: there was no connection."""

    def __init__(self, message: str, wait_s: float | None = None, unreachable: bool = False) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.unreachable = unreachable


class Connection:
    """An event loop in a thread of its own, and the `openai` client that runs on it.

    `loop`: where `ask` runs. `process`: the process that has the thread; a fork of it has none.
    """

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
        """One chat completion within `timeout_s`. Raises TransientFailure, EndpointError or EndpointRefused."""
        chat: Any = messages
        return self._reply(
            await self._body_of(
                self._client.chat.completions.with_streaming_response.create(
                    model=self.settings.model,
                    messages=chat,
                    extra_body=dict(parameters),
                    extra_headers=self._headers,
                )
            )
        )

    async def models(self) -> list[dict[str, Any]]:
        """The entries of the endpoint's list of models (`GET /models`); empty where it has no such list. Raises as
        `ask` does."""
        listing = self._client.models.with_streaming_response.list(extra_headers=self._headers)
        body = await self._body_of(listing, absent=_ABSENT)
        try:
            entries = json.loads(body)["data"] if body else []
            return [dict(entry) for entry in entries]
        except (ValueError, RecursionError, LookupError, TypeError):
            text = self._redacted(body.decode("utf-8", "replace"))
            raise TransientFailure(f"a list of models that cannot be read: {text[:200]!r}") from None

    async def _body_of(self, request: AbstractAsyncContextManager[Any], absent: Container[int] = ()) -> bytes:
        """The body of the reply to `request`, within `timeout_s`; empty for a status in `absent`."""
        from openai import APIConnectionError, APIStatusError

        try:
            async with asyncio.timeout(self.settings.timeout_s):
                async with request as response:
                    return await _body(response.iter_bytes())
        except TimeoutError:
            raise TransientFailure(f"no complete reply within {self.settings.timeout_s:g} s") from None
        except APIStatusError as error:
            if error.status_code in absent:
                return b""
            raise self._status_error(error) from None
        except APIConnectionError as error:
            raise self._connection_error(error) from None
        except UnicodeError:
            raise EndpointError(f"{self.name} cannot be asked: the request holds text that is not Unicode.") from None
        except Exception as error:  # the HTTP client differs by release of openai; other errors pass
            if type(error).__module__.partition(".")[0] not in _HTTP_CLIENTS:
                raise
            raise TransientFailure(f"the reply broke off ({type(error).__name__})") from None

    def _status_error(self, error: APIStatusError) -> Exception:
        status, text = error.status_code, self._redacted(error.response.text)
        if status == 429 and error.code == "insufficient_quota":
            return EndpointRefused(f"{self.name} refuses: the account has no credit left ({text[:200]}).")
        if status in _RETRIED:
            return TransientFailure(f"HTTP {status}: {text[:200]}", _retry_after_s(error.response.headers))
        if status in _REFUSING:
            return EndpointRefused(
                f"{self.name} refuses: HTTP {status}: {text[:500]}. Check {self.role}.base_url, {self.role}.model and "
                f"{self.role}.api_key_env."
            )
        return EndpointError(f"{self.name} does not accept this request: HTTP {status}: {text[:500]}")

    def _connection_error(self, error: APIConnectionError) -> TransientFailure:
        cause = error.__cause__ or error
        kind = type(cause).__name__  # by name: releases of openai bring different HTTP clients
        return TransientFailure(
            f"{kind}: {self._redacted(str(cause))}", unreachable=kind in ("ConnectError", "ConnectTimeout")
        )

    def _reply(self, body: bytes) -> ChatReply:
        """The first choice. An empty text is a valid reply: a model may spend all its tokens on thinking."""
        text = body.decode("utf-8", "replace")
        try:
            completion = json.loads(text)
            choice = completion["choices"][0]
            content = choice["message"]["content"]
        except (ValueError, RecursionError, LookupError, TypeError):
            raise TransientFailure(f"a reply that is not a chat completion: {self._redacted(text)[:200]!r}") from None
        if content is not None and not isinstance(content, str):
            raise TransientFailure(f"a message whose content is not text: {self._redacted(str(content))[:200]!r}")
        usage = completion.get("usage")
        return ChatReply(
            self._redacted(content or ""),
            str(choice.get("finish_reason") or ""),
            _count(usage, "prompt_tokens"),
            _count(usage, "completion_tokens"),
            self._redacted(str(completion.get("model") or "")),
        )

    def _redacted(self, text: str) -> str:
        """Some servers repeat the key that they refuse."""
        return text.replace(self._secret, "<api key>") if self._secret else text


def _client(settings: ChatSettings, key: str) -> AsyncOpenAI:
    """A client that repeats no request by itself, as `max_calls` has to count each. It uses the proxy variables of the
    environment. The transport's debug messages are off: they show response headers, where a server may repeat the
    key."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Timeout

    for transport in ("httpcore", "httpcore2"):
        logging.getLogger(transport).setLevel(logging.INFO)
    return AsyncOpenAI(
        base_url=settings.base_url,
        api_key=key or "none",
        max_retries=0,
        timeout=Timeout(None, connect=min(_MAX_CONNECT_S, settings.timeout_s / 2)),  # see `Connection.ask` for the rest
        http_client=DefaultAsyncHttpxClient(follow_redirects=False),
    )


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _headers(key: str) -> dict[str, Any]:
    """Headers of each request. Connections are not reused: the server may have closed one that was kept open. The
    package's headers from OPENAI_ORG_ID and OPENAI_PROJECT_ID are left out: the endpoint may be another company's."""
    from openai import Omit

    headers: dict[str, Any] = {"Connection": "close", "OpenAI-Organization": Omit(), "OpenAI-Project": Omit()}
    return headers if key else {**headers, "Authorization": Omit()}


async def _body(chunks: AsyncIterator[bytes]) -> bytes:
    """The body. One of more than `_MAX_BODY_BYTES` is a failure."""
    parts, size = [], 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > _MAX_BODY_BYTES:
            raise TransientFailure(f"a reply of more than {_MAX_BODY_BYTES >> 20} MiB")
    return b"".join(parts)


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The header `Retry-After`, in seconds or as a date, from 0 to `MAX_WAIT_S`; None where it is missing."""
    value = headers.get("retry-after", "")
    try:
        wait = float(value)
    except ValueError:
        try:
            wait = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(wait, 0.0), MAX_WAIT_S) if wait == wait else None
