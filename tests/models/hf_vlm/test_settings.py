"""Settings of hf_vlm: mistakes are refused before anything is loaded; presets compose and say what they should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalkit import job
from evalkit.cli.compose import choices, compose
from evalkit.errors import ConfigError
from evalkit.models.hf_vlm import HFVLM, HFVLMMini
from evalkit.models.hf_vlm.settings import PixelSettings
from evalkit.video.resize import PixelBudget

PRESETS = [name for name in choices("experiment") if name.startswith(("qwen", "llava_onevision"))]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint": ""}, r"model\.checkpoint="),
        ({"dtype": "int8"}, "dtype"),
        ({"attention": "spda"}, "Did you mean"),
        ({"attention": "flash_attention_2", "dtype": "float32"}, "attention=sdpa"),
        ({"device": "gpu"}, "choose auto, cpu"),
        ({"device": "cpu", "device_map": "auto"}, "contradict"),
        ({"device_map": "all"}, "device_map"),
        ({"cues": "before"}, "cues"),
        ({"processor": {"fps": 2}}, "decided by evalkit"),
        ({"chat_template": "/no/such/file"}, "no such file"),
        ({"question_batch": 0}, "question_batch"),
        ({"question_batch": 2, "reuse_prefix": False}, "question_batch=1"),
    ],
)
def test_mistakes_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HFVLM(**{"checkpoint": "Qwen/Qwen2.5-VL-7B-Instruct", **settings})


def test_pixel_settings() -> None:
    assert PixelSettings().budget() is None
    assert PixelSettings(100, 50, 1000, 32).budget() == PixelBudget(100, 50, 1000, 32)
    assert PixelSettings(total_max=1000).budget() == PixelBudget(1000, 0, 1000, 28)
    for wrong in ({"per_frame_min": 5}, {"per_frame_max": 5, "per_frame_min": 6}, {"total_max": 0}):
        with pytest.raises(ConfigError, match=r"per_frame_m|total_max"):
            PixelSettings(**wrong)


def test_the_miniature_names_its_own_checkpoint() -> None:
    with pytest.raises(ConfigError, match="model=hf_vlm"):
        HFVLMMini(checkpoint="Qwen/Qwen2.5-VL-7B-Instruct")
    assert "random weights" in HFVLMMini().remarks()[0]


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    plan = job.plan(compose([f"experiment={name}"]))
    assert isinstance(plan.model, HFVLM)
    family, _, task = name.partition("/")
    assert plan.task.name == task
    assert {"qwen2_5_vl": 768, "qwen2_vl": 768, "llava_onevision": 32}[family] == plan.model.frames.max


def test_qwen2_5_vl_stays_below_the_tokens_of_its_report() -> None:
    model = job.plan(compose(["experiment=qwen2_5_vl/videomme"])).model
    budget = model.frames_wanted().resize
    for frames in (20, 300, 768):
        height, width = budget.size_for(720, 1280, frames)
        assert frames / 2 * height * width / 28**2 <= 24_576
        assert 48 * 28**2 <= height * width <= 768 * 28**2 or frames == 768


def test_settings_import_no_torch() -> None:
    code = "import sys, evalkit.models.hf_vlm; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
