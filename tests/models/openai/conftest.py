from collections.abc import Iterator

import pytest

from tests.clients.endpoint import Endpoint, completion, serving

USAGE = {"prompt_tokens": 1000, "completion_tokens": 10}
OK = (200, completion("A", usage=USAGE, model="m-7b-2026"), {})


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A server that answers "A" and serves one model."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        server.script = [OK]
        server.models = [{"id": "m-7b", "owned_by": "vllm", "root": "me/m-7b", "max_model_len": 32768, "created": 1}]
        yield server
