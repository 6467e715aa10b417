"""What the checkpoint says of token generation is part of the run's key, however the checkpoint comes here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from evalkit import CONFIGS, job
from evalkit.cli.compose import compose
from evalkit.models.videoxl2.mini import folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(folder(), tmp_path / "weights"))
    (copy / "generation_config.json").write_text(json.dumps({"repetition_penalty": 1.05, "temperature": 0.7}))
    return copy


def planned(checkpoint: Path, *more: str) -> job.Plan:
    words = ["task=mlvu", "source=mini", "model=videoxl2", f"model.checkpoint={checkpoint}", "model.dtype=float32"]
    return job.plan(compose([*words, *more], [CONFIGS]))


def test_the_penalty_in_force_is_in_the_key(checkpoint: Path) -> None:
    plan = planned(checkpoint)
    assert plan.identity()["decoding"]["repetition_penalty"] == 1.05
    key = plan.folder.name
    (checkpoint / "generation_config.json").write_text(json.dumps({"repetition_penalty": 1.2}))
    assert planned(checkpoint).identity()["decoding"]["repetition_penalty"] == 1.2
    assert planned(checkpoint).folder.name != key
    (checkpoint / "generation_config.json").unlink()
    assert planned(checkpoint).identity()["decoding"]["repetition_penalty"] == 1.0


def test_what_the_user_sets_is_in_the_key_instead(checkpoint: Path) -> None:
    plan = planned(checkpoint, "decoding.repetition_penalty=1.0")
    assert plan.identity()["decoding"]["repetition_penalty"] == 1.0


def test_a_checkpoint_that_is_not_here_says_nothing_yet() -> None:
    from evalkit.models.videoxl2.settings import VideoXL2

    settings = VideoXL2(checkpoint="nobody/nothing")
    assert settings.generation_defaults(fetch=False) == {"repetition_penalty": 1.0}
