"""Settings of a mechanism that is off until `enabled: true` or one of its settings is given, and checks of values.

A section is a dataclass whose fields are None where nothing was given. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

from evalkit.errors import ConfigError, suggest

T = TypeVar("T")


def is_on(section: Any, key: str) -> bool:
    """As `enabled` says; where it says nothing, whether any other setting is given. Raises ConfigError for
    `enabled: false` beside settings, which would be ignored. `key`: the section's, for the message."""
    given = replace(section, enabled=None) != type(section)()
    if section.enabled is False and given:
        raise ConfigError(
            f"{key}.enabled=false, but settings of {key} are given that would be ignored: leave them out."
        )
    return given if section.enabled is None else bool(section.enabled)


def with_defaults(section: T, **defaults: Any) -> T:
    """A copy in which settings that are None have the values of `defaults`."""
    return replace(section, **{k: v for k, v in defaults.items() if getattr(section, k) is None})  # type: ignore[type-var]


def at_least(least: int, key: str, value: int | None) -> None:
    """Raises ConfigError for a smaller value; None is nothing given."""
    if value is not None and value < least:
        raise ConfigError(f"{key}={value}: give at least {least}.")


def one_of(choices: Iterable[str], key: str, value: str | None) -> None:
    """Raises ConfigError for another value, with the nearest choice; None is nothing given."""
    choices = tuple(choices)
    if value is not None and value not in choices:
        raise ConfigError(f'{key}="{value}": choose {", ".join(choices)}.{suggest(value, choices)}')
