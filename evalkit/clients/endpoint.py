"""Where a chat endpoint is and how it is asked, and what can go wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from evalkit.errors import ConfigError, EvalkitError

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
    `requests_per_minute`: requests that one client sends in a minute, evenly spaced; 0: as many as it is asked for.
    """

    base_url: str
    model: str
    api_key_env: str = ""
    timeout_s: float = 120.0
    retries: int = 5
    max_calls: int = 5000
    requests_per_minute: float = 0.0

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
        if self.requests_per_minute < 0:
            raise ConfigError(f"{group}.requests_per_minute must not be negative; 0 sets no limit.")


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
