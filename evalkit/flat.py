"""Nested settings as dotted keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"frames": {"max": 4}}` as `{"frames.max": 4}`; lists as text."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value) if isinstance(value, list | tuple) else value
    return flat


def varying(all_settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys whose values are not the same in all of them, in order of appearance."""
    all_settings = list(all_settings)
    keys = dict.fromkeys(key for settings in all_settings for key in settings)
    return [key for key in keys if len({repr(settings.get(key)) for settings in all_settings}) > 1]
