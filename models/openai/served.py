"""What a server says of the model that it serves."""

from __future__ import annotations

from typing import Any

from evalkit.clients.chat import ChatClient
from evalkit.clients.endpoint import ChatSettings

STABLE = ("id", "object", "owned_by", "root", "parent", "max_model_len")
"""The fields that stay the same while a server serves the same model; vLLM's `created` is the time of the request."""


def served_model(settings: ChatSettings) -> dict[str, Any] | None:
    """The stable fields of the model's entry in `GET /models`; None where the server has no such list or entry. Raises
    ChatError where the server cannot be asked."""
    client = ChatClient(settings, "model")
    try:
        for entry in client.models():
            if settings.model in (entry.get("id"), str(entry.get("id")).removeprefix("models/")):  # Gemini's prefix
                return {name: entry[name] for name in STABLE if name in entry}
        return None
    finally:
        client.stop()
