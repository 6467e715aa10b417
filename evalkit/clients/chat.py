"""A client of chat endpoints with OpenAI's interface: hosted models, or a local vLLM server.

The official `openai` package sends the requests. This client adds one deadline for each request, a limit of requests,
and distinguishes an endpoint that cannot work (wrong key, no server) from a request that failed.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from evalkit.clients.connection import MAX_WAIT_S, ChatReply, Connection, TransientFailure
from evalkit.clients.endpoint import (
    CallLimitReached,
    ChatError,
    ChatSettings,
    EndpointError,
    EndpointRefused,
    EndpointStopped,
    EndpointUnreachable,
)
from evalkit.clients.pace import Pace

T = TypeVar("T")

_MAX_FAILURES_IN_A_ROW = 10


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
        self._connection: Connection | None = None
        self._pace = Pace(settings.requests_per_minute)
        self._running: set[Future[Any]] = set()
        self._stopped: EndpointStopped | None = None
        self._stop_waiting = threading.Event()
        self._failures_in_a_row = 0

    def complete(self, messages: Sequence[Mapping[str, Any]], **parameters: Any) -> ChatReply:
        """The model's reply to a chat.

        `messages`: as the interface defines them; a message's content is text or a list of text and image parts.
        `parameters`: further fields of the request (temperature, max_tokens, ...).
        Raises EndpointError (this request failed) or EndpointStopped (no further request will be sent).
        """
        return self._repeated(lambda connection: connection.ask(messages, parameters))

    def models(self) -> list[dict[str, Any]]:
        """The endpoint's entries of `GET /models`; empty where it has no such list. Counts as a request. Raises as
        `complete` does."""
        return self._repeated(lambda connection: connection.models())

    def _repeated(self, request: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """The result of a request, repeated after failures that may pass."""
        for attempt in range(self.settings.retries + 1):
            if delay_s := self._pace.delay_s():
                self._wait(delay_s)
            self._count_call()
            try:
                result = self._send(request)
            except TransientFailure as failure:
                if attempt == self.settings.retries:
                    raise self._failed(failure) from None
                self._wait(failure.wait_s if failure.wait_s is not None else _backoff_s(attempt))
            except EndpointStopped as error:
                raise self._stop(error) from None
            else:
                self._failures_in_a_row = 0
                return result
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

    def _failed(self, failure: TransientFailure) -> ChatError:
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

    def _send(self, request: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """One request, on the connection's event loop. Ctrl-C and `stop` cancel it."""
        connection = self._connect()
        future = asyncio.run_coroutine_threadsafe(request(connection), connection.loop)
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

    def _connect(self) -> Connection:
        with self._lock:
            if self._connection is None or self._connection.process != os.getpid():  # a fork has no event loop
                self._connection = Connection(self.settings, self._key(), self._name, self.role)
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


def _backoff_s(attempt: int) -> float:
    return float(min(2.0**attempt, MAX_WAIT_S)) * random.uniform(0.5, 1.0)
