"""Names for rows and columns: they state the settings that differ between runs, and leave out those that all share.

A column is a benchmark with its split and protocol, a row a model with its settings. Settings are the identity of a
run (what its key is hashed from) by dotted key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from evalkit.flat import varying

Settings = Mapping[str, Any]
"""Dotted key -> plain value."""

_SWITCH = "enabled"


def labels(all_settings: Sequence[Settings]) -> list[tuple[str, ...]]:
    """For each of several settings the words that tell it from the others: `section on`,
    `section ratio=8`, `size=128`. A mechanism with a switch is named once: off, or on with those of
    its values that differ among the settings that have it on."""
    keys = varying(all_settings)
    sections: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        sections[_section(key, all_settings)].append(key)
    return [
        tuple(word for section, inner in sections.items() if (word := _word(section, inner, settings, all_settings)))
        for settings in all_settings
    ]


def _section(key: str, all_settings: Sequence[Settings]) -> str:
    """The mechanism a key belongs to, if that has a switch; else the key itself."""
    parts = key.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        section = ".".join(parts[:depth])
        if any(f"{section}.{_SWITCH}" in settings for settings in all_settings):
            return section
    return key


def _word(section: str, keys: list[str], settings: Settings, all_settings: Sequence[Settings]) -> str:
    if section in keys:
        value = settings.get(section)
        return "" if value is None else f"{section}={plain(value)}"
    if not settings.get(f"{section}.{_SWITCH}"):
        return f"{section} off"
    on = [other for other in all_settings if other.get(f"{section}.{_SWITCH}")]
    words = [
        f"{key[len(section) + 1 :]}={plain(settings[key])}"
        for key in varying(on)
        if key.startswith(f"{section}.") and settings.get(key) is not None
    ]
    return f"{section} {' '.join(words) or 'on'}"


def plain(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
