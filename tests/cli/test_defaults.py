"""Every setting is in the YAML files, so that a command line can change it, with the same default as in Python."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import pytest
from omegaconf import OmegaConf

from evalkit import CONFIGS
from evalkit.cli.compose import choices, compose
from evalkit.config import locate
from evalkit.video.settings import VideoSettings

WHOLE = ("task=mlvu", "model=videoxl2")


def composed(group: str, name: str) -> Any:
    named = [*(word for word in WHOLE if not word.startswith(f"{group}=")), f"{group}={name}"]
    return OmegaConf.to_container(compose(named)[group])


def default_of(setting: Field[Any]) -> Any:
    return setting.default if setting.default is not MISSING else setting.default_factory()


def differences(default: Any, values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Settings of `default`'s class that `values` lacks, or has with another value."""
    for setting in (f for f in fields(default) if f.init):
        key, own = prefix + setting.name, getattr(default, setting.name)
        if setting.name not in values:
            yield f"{key} is not there"
        elif is_dataclass(own):
            yield from differences(own, values[setting.name], f"{key}.")
        elif values[setting.name] != own:
            yield f"{key} is {values[setting.name]!r}, in Python {own!r}"


@pytest.mark.parametrize(
    ("group", "name"),
    [(g, n) for g in ("task", "model", "executor") for n in choices(g, CONFIGS)] + [("tracker", "default")],
)
def test_a_group_names_all_settings_of_its_class(group: str, name: str) -> None:
    values = composed(group, name)
    made = locate(values.pop("_target_"), group, [])
    default = object.__new__(made)  # as given: some classes settle what is null when they are made
    for setting in fields(made):
        setattr(default, setting.name, default_of(setting))
    found = {*differences(default, values)} - {"name is not there"}  # a model's name is no setting
    assert found == set()


def test_video_settings_have_the_same_defaults_everywhere() -> None:
    assert set(differences(VideoSettings(), OmegaConf.to_container(compose(WHOLE)["video"]))) == set()
