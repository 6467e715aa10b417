"""The chat client against a real HTTP server on this machine that fails in many ways."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from evalkit.clients.chat import ChatClient
from evalkit.clients.connection import ChatReply
from evalkit.clients.endpoint import (
    CallLimitReached,
    ChatError,
    ChatSettings,
    EndpointError,
    EndpointRefused,
    EndpointStopped,
    EndpointUnreachable,
)
from evalkit.errors import ConfigError
from tests.clients.endpoint import Endpoint, completion, serving
from tests.helpers import ROOT

KEY = "sk-very-secret-0123456789"
CHAT = [{"role": "user", "content": "Is it right?"}]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        yield server


Make = Callable[..., ChatClient]


@pytest.fixture
def make(endpoint: Endpoint) -> Make:
    def client(**settings: Any) -> ChatClient:
        waits: list[float] = []
        made = ChatClient(ChatSettings(endpoint.url, "m-7b", **settings), sleep=waits.append)
        made.waits = waits  # type: ignore[attr-defined]
        return made

    return client


def test_what_is_sent_and_what_comes_back(endpoint: Endpoint, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "an-organization")
    endpoint.script = [(200, completion("yes ✓", usage={"prompt_tokens": 11, "completion_tokens": 2}), {})]
    image = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA"}}
    chat = [{"role": "user", "content": [{"type": "text", "text": "What?"}, image]}]
    reply = make().complete(chat, temperature=0.7, top_k=20, seed=None)
    assert reply == ChatReply("yes ✓", "stop", 11, 2)
    assert endpoint.requests == [
        {
            "path": "/v1/chat/completions",
            "model": "m-7b",
            "messages": chat,
            "temperature": 0.7,
            "top_k": 20,
            "seed": None,
        }
    ]
    assert endpoint.keys == [None], "OpenAI's own key is not for this endpoint"
    assert "organization" not in str(endpoint.headers).lower()


@pytest.mark.parametrize("usage", [{}, {"usage": None}, {"usage": {"prompt_tokens": "many", "completion_tokens": -1}}])
def test_usage_that_is_missing_counts_as_nothing(endpoint: Endpoint, make: Make, usage: dict) -> None:
    endpoint.script = [(200, completion(None, **usage), {})]
    assert make().complete(CHAT) == ChatReply("", "stop", 0, 0)


FAILURES = [
    (429, b"slow down", {"Retry-After": "7"}),
    (500, b"<html>oops</html>", {}),
    (503, b"", {}),
    (200, b"\x00\xff garbage", {}),
    (200, b'{"choices": []}', {}),
    (200, b'{"choices": [{"message": {"content": [1, 2]}}]}', {}),
    (200, b"[" * 100_000, {}),
    (200, b"null", {}),
    (200, b"no gzip", {"Content-Encoding": "gzip"}),
    (500, b"no gzip", {"Content-Encoding": "gzip"}),
    (200, gzip.compress(b" " * (17 << 20), mtime=0), {"Content-Encoding": "gzip"}),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: f"{failure[0]} {failure[1][:12]!r}")
def test_what_may_pass_is_tried_again(endpoint: Endpoint, make: Make, failure: tuple) -> None:
    endpoint.script = [failure, failure, (200, completion("4"), {})]
    client = make()
    assert client.complete(CHAT).text == "4"
    waits = client.waits  # type: ignore[attr-defined]
    assert client.calls == 3 and len(waits) == 2
    if "Retry-After" in failure[2]:
        assert waits == [7, 7]
    else:
        assert 0.5 <= waits[0] <= 1 and 1 <= waits[1] <= 2


@pytest.mark.parametrize(
    ("value", "waited"),
    [
        ("Wed, 21 Oct 2099 07:28:00 GMT", 120),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("-5", 0),
        ("9e9", 120),
        ("0.5", 0.5),
    ],
)
def test_retry_after(endpoint: Endpoint, make: Make, value: str, waited: float) -> None:
    endpoint.script = [(429, b"", {"Retry-After": value}), (200, completion("4"), {})]
    client = make()
    client.complete(CHAT)
    assert client.waits == [waited]  # type: ignore[attr-defined]


def test_a_broken_connection_costs_this_request_alone(endpoint: Endpoint, make: Make) -> None:
    endpoint.breaks_off = True
    client = make(retries=1)
    with pytest.raises(EndpointError, match="did not answer in 2 attempts: the reply broke off"):
        client.complete(CHAT)
    endpoint.breaks_off = False
    assert client.complete(CHAT).text == "yes"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, EndpointRefused) for status in (301, 401, 403, 404)),
        *((status, EndpointError) for status in (400, 413, 418)),
    ],
)
def test_what_will_not_pass_is_not_tried_again(endpoint: Endpoint, make: Make, status: int, error: type) -> None:
    endpoint.script = [(status, b"no such model", {"Location": "http://127.0.0.1:9/"})]
    client = make()
    with pytest.raises(error, match=f"HTTP {status}: no such model"):
        client.complete(CHAT)
    assert len(endpoint.requests) == 1
    endpoint.script = [(200, completion("4"), {})]
    if error is EndpointRefused:
        with pytest.raises(EndpointRefused, match=r"Check model\.base_url, model\.model and model\.api_key_env"):
            client.complete(CHAT)
        assert len(endpoint.requests) == 1, "an endpoint that refuses is not asked again"
    else:
        assert client.complete(CHAT).text == "4"


def test_an_account_without_credit_is_refused(endpoint: Endpoint, make: Make) -> None:
    body = json.dumps({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}).encode()
    endpoint.script = [(429, body, {})]
    with pytest.raises(EndpointRefused, match="no credit left"):
        make().complete(CHAT)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize("trouble", ["delay_s", "drip_s", "drip_headers_s"])
def test_one_deadline_for_the_whole_request(endpoint: Endpoint, make: Make, trouble: str) -> None:
    """A server that sends single bytes never exceeds a timeout for single reads."""
    setattr(endpoint, trouble, 2.0 if trouble == "delay_s" else 0.05)
    started = time.monotonic()
    with pytest.raises(EndpointError, match=r"did not answer in 1 attempts: no complete reply within 0\.3 s"):
        make(timeout_s=0.3, retries=0).complete(CHAT)
    assert time.monotonic() - started < 2.5  # the first request imports the client; all bytes would take five seconds


def test_nobody_listens() -> None:
    client = ChatClient(ChatSettings("http://127.0.0.1:9/v1", "m", retries=1), sleep=lambda s: None)
    with pytest.raises(EndpointUnreachable, match=r"did not answer in 2 attempts: ConnectError.*Check model\.base_url"):
        client.complete(CHAT)
    with pytest.raises(EndpointUnreachable):
        client.complete(CHAT)
    assert client.calls == 2, "the next request does not wait for a server that is not there"


def test_many_failures_in_a_row_stop_the_client(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(500, b"oops", {})]
    client = make(retries=0)
    for _ in range(9):
        with pytest.raises(EndpointError, match="HTTP 500: oops"):
            client.complete(CHAT)
    with pytest.raises(EndpointUnreachable, match="The last 10 requests failed"):
        client.complete(CHAT)


def test_the_proxy_of_the_environment_is_used(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", endpoint.url.removesuffix("/v1"))
    monkeypatch.setenv("http_proxy", endpoint.url.removesuffix("/v1"))
    assert ChatClient(ChatSettings("http://nowhere.invalid/v1", "m", retries=0)).complete(CHAT).text == "yes"
    assert endpoint.requests[0]["path"] == "http://nowhere.invalid/v1/chat/completions"


def test_the_key_goes_to_the_endpoint_and_nowhere_else(
    endpoint: Endpoint, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    with pytest.raises(EndpointRefused, match="set the environment variable MODEL_KEY"):
        make(api_key_env="MODEL_KEY").complete(CHAT)
    monkeypatch.setenv("MODEL_KEY", f"{KEY}\n")
    client = make(api_key_env="MODEL_KEY")
    endpoint.script = [(200, completion(f"your key is {KEY}"), {"X-Echo": KEY})]
    assert client.complete(CHAT).text == "your key is <api key>"
    assert endpoint.keys == [f"Bearer {KEY}"]
    for status, body in (
        (401, b""),
        (500, b""),
        (400, b""),
        (200, b"no completion"),
        (200, b'{"choices": [{"message"'),
    ):
        endpoint.script = [(status, f"Incorrect API key provided: {KEY} ".encode() + body, {"X-Echo": KEY})]
        with pytest.raises(ChatError, match="<api key>") as caught:
            make(api_key_env="MODEL_KEY", retries=0).complete(CHAT)
        assert KEY not in str(caught.value)
    assert KEY not in repr(client) + repr(client.settings) and KEY not in caplog.text


@pytest.mark.parametrize("key", ["sk-a b", "sk-\x00", "schlüssel"])
def test_a_key_that_no_header_can_hold(make: Make, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "MODEL_KEY": key})
    with pytest.raises(EndpointRefused, match="MODEL_KEY does not hold an API key") as caught:
        make(api_key_env="MODEL_KEY").complete(CHAT)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *(KEY, "sk_live_0123", "hf_abcDEF012", "gsk_a1b2c3", "AIzaSyA1b2c3", "0123456789abcdef", "a b", "KEY=abc"),
        *("deadbeef0123456789abcdef01234567", "AKIA0123456789ABCDEFGH"),
    ],
)
def test_a_key_in_place_of_its_variable_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.api_key_env must be the name of an environment variable") as caught:
        ChatClient(ChatSettings("http://host/v1", "m", api_key_env=name))
    assert name not in str(caught.value)


@pytest.mark.parametrize("name", ["", "OPENAI_API_KEY", "openai_key", "JUDGE_KEY_2", "MY_COMPANY_OPENAI_API_KEY_2026"])
def test_names_of_variables(name: str) -> None:
    ChatClient(ChatSettings("http://host/v1", "m", api_key_env=name))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000"}, "is not a URL"),
        ({"base_url": "http://[::1/v1"}, "is not a URL"),
        ({"base_url": "http://host:port/v1"}, "is not a URL"),
        ({"base_url": "http://user:pass@host/v1"}, "must not hold credentials"),
        ({"base_url": "http://host/v1?key=abc"}, "must not hold credentials"),
        ({"model": ""}, r"model\.model is empty"),
        ({"max_calls": -1}, "must not be negative"),
        ({"timeout_s": 0}, "must be positive"),
        ({"timeout_s": float("nan")}, "must be positive"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        ChatClient(ChatSettings(**{"base_url": "http://host/v1", "model": "m", **settings}))
    assert "pass@" not in str(caught.value) and "abc" not in str(caught.value)


def test_the_limit_holds_for_all_threads_and_counts_repeated_requests(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(500, b"", {}), (200, completion("4"), {})]
    client = make(max_calls=5)

    def ask(_: int) -> str:
        try:
            return client.complete(CHAT).text
        except CallLimitReached as error:
            assert "asked 5 times, which is model.max_calls" in str(error)
            return "limit"

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(ask, range(12)))
    assert client.calls == len(endpoint.requests) == 5
    assert replies.count("4") <= 4 and set(replies) == {"4", "limit"}


def test_many_requests_at_once(endpoint: Endpoint, make: Make) -> None:
    endpoint.delay_s = 0.2
    client = make()
    client.complete(CHAT)
    with ThreadPoolExecutor(16) as pool:
        started = time.monotonic()
        replies = list(pool.map(lambda i: client.complete(CHAT).text, range(32)))
    assert replies == ["yes"] * 32
    assert endpoint.most_at_once >= 8
    assert time.monotonic() - started < 4  # one after another: 6.4 s


@pytest.mark.parametrize("state", ["asking", "waiting to repeat"])
def test_stop_ends_what_is_under_way(endpoint: Endpoint, state: str) -> None:
    if state == "asking":
        endpoint.delay_s = 30
    else:
        endpoint.script = [(429, b"", {"Retry-After": "60"})]
    client = ChatClient(ChatSettings(endpoint.url, "m"))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.complete, CHAT) for _ in range(4)]
        deadline = time.monotonic() + 20
        while len(endpoint.requests) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        started = time.monotonic()
        client.stop()
        for future in asked:
            with pytest.raises(EndpointStopped, match="was stopped"):
                future.result(5)
        assert time.monotonic() - started < 5


def test_ctrl_c_ends_a_request(endpoint: Endpoint) -> None:
    endpoint.delay_s = 30.0
    program = (
        "from evalkit.clients.chat import ChatClient, ChatSettings\n"
        f"ChatClient(ChatSettings({endpoint.url!r}, 'm')).complete([dict(role='user', content='?')])\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not endpoint.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    asking.send_signal(signal.SIGINT)
    _, said = asking.communicate(timeout=10)
    assert "KeyboardInterrupt" in said and asking.returncode != 0


def test_text_that_cannot_be_sent(endpoint: Endpoint, make: Make) -> None:
    with pytest.raises(EndpointError, match="not Unicode"):
        make().complete([{"role": "user", "content": "cut inside a character: \ud83d"}])


def test_importing_the_client_imports_no_openai() -> None:
    program = "import sys, evalkit.clients.chat, evalkit.scoring.judge; print('openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_client_that_is_gone_leaves_no_thread(endpoint: Endpoint) -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "lonely requests"]

    client = ChatClient(ChatSettings(endpoint.url, "m"), "lonely")
    client.complete(CHAT)
    assert len(threads()) == 1
    del client
    deadline = time.monotonic() + 5
    while threads() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not threads()


def test_a_silent_server_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server accepts connections and sends nothing."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        with pytest.raises(EndpointError, match="no complete reply within"):
            ChatClient(ChatSettings(url, "m", timeout_s=0.2, retries=0)).complete(CHAT)
