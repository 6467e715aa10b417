"""Settings of Video-XL-2: what they check, and what switches on what."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from evalkit.cli.compose import compose
from evalkit.config import instantiate
from evalkit.errors import ConfigError
from evalkit.model import Axis
from evalkit.models.shared.layout import Chunked, Full, Policy, Streaming
from evalkit.models.videoxl2 import VideoXL2, VideoXL2Mini
from evalkit.models.videoxl2 import settings as module
from evalkit.types import FramePlan
from evalkit.video.resize import FixedSize


def structured(cls: type[VideoXL2] = VideoXL2, **values: Any) -> VideoXL2:
    """As the command line makes it: defaults and overrides merged as a structured config, then instantiated."""
    made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), values))
    assert isinstance(made, cls)
    return made


def test_importing_the_settings_imports_no_torch() -> None:
    code = "import sys, evalkit.models.videoxl2 as m; m.VideoXL2(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_defaults() -> None:
    made = structured()
    assert made == VideoXL2()
    assert made.dtype == "bfloat16" and made.attention == "sdpa" and made.time_rewrite == "authors"
    assert made.sparse_prefill.enabled is False and made.bilevel_decode.enabled is False
    request = made.frames_wanted()
    assert (request.rule, request.max_frames, request.fps, request.max_fps) == ("video_xl_2", 256, 1.0, 4.0)
    assert request.multiple_of == 1 and request.resize == FixedSize(384, 384) and request.resample == "bicubic"
    assert made.remarks() == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (False, None, None)),
        ({"enabled": False}, (False, None, None)),
        ({"enabled": True}, (True, 4, 3)),
        ({"chunk_groups": 6}, (True, 6, 3)),
        ({"previous_chunks": 0}, (True, 4, 0)),
        ({"enabled": True, "chunk_groups": 6, "previous_chunks": 5}, (True, 6, 5)),
    ],
)
def test_sparse_prefill_switches_on_when_something_is_given(given: dict[str, Any], expected: tuple[Any, ...]) -> None:
    sparse = structured(sparse_prefill=given).sparse_prefill
    assert (sparse.enabled, sparse.chunk_groups, sparse.previous_chunks) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"enabled": True}, (4, 4, 5, None, "attention")),
        ({"compression": 16}, (16, 4, 5, None, "attention")),
        ({"chunk_groups": 12}, (4, 12, 5, None, "attention")),
        ({"budget": {"fraction": 0.5}}, (4, 4, None, 0.5, "attention")),
        ({"budget": {"chunks": 8}}, (4, 4, 8, None, "attention")),
        ({"relevance": {"method": "uniform"}}, (4, 4, 5, None, "uniform")),
        ({"relevance": {"method": "file", "file": "x.json"}}, (None, None, None, None, "file")),
        ({"compression": 8, "relevance": {"method": "file", "file": "x.json"}}, (8, None, None, None, "file")),
    ],
)
def test_bilevel_decode_switches_on_when_something_is_given(given: dict[str, Any], expected: tuple[Any, ...]) -> None:
    bilevel = structured(bilevel_decode=given).bilevel_decode
    assert bilevel.enabled is True
    budget = bilevel.budget
    values = (bilevel.compression, bilevel.chunk_groups, budget.chunks, budget.fraction, bilevel.relevance.method)
    assert values == expected


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        ({}, Full()),
        ({"enabled": True}, Chunked(4, 3)),
        ({"rule": "masked"}, Chunked(4, 3)),
        ({"rule": "streaming", "previous_chunks": 1}, Streaming(4, 1)),
    ],
)
def test_the_rule_of_sparse_prefill(given: dict[str, Any], policy: Policy) -> None:
    assert structured(sparse_prefill=given).sparse_prefill.policy() == policy


def test_relevance_has_the_values_its_method_needs() -> None:
    def relevance(**given: Any) -> dict[str, Any]:
        settled = asdict(structured(bilevel_decode={"relevance": given}).bilevel_decode.relevance)
        return {key: value for key, value in settled.items() if value is not None}

    assert relevance(method="random") == {"method": "random", "seed": 0}
    assert relevance(method="random", seed=7) == {"method": "random", "seed": 7}
    assert relevance(method="file", file="a") == {"method": "file", "file": "a", "on_miss": "error"}
    assert relevance(method="siglip") == {"method": "siglip", "model": "google/siglip-so400m-patch14-384"}


def test_two_ways_to_say_the_same_are_the_same() -> None:
    assert structured(sparse_prefill={"enabled": True}) == structured(sparse_prefill={"chunk_groups": 4})
    assert replace(structured(bilevel_decode={"enabled": True})) == structured(bilevel_decode={"compression": 4})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sparse_prefill": {"enabled": False, "chunk_groups": 4}}, "sparse_prefill.enabled=false"),
        ({"sparse_prefill": {"enabled": False, "rule": "streaming"}}, "sparse_prefill.enabled=false"),
        ({"sparse_prefill": {"rule": "stream"}}, 'Did you mean "streaming"'),
        ({"bilevel_decode": {"enabled": False, "compression": 4}}, "bilevel_decode.enabled=false"),
        ({"bilevel_decode": {"enabled": False, "budget": {"chunks": 4}}}, "bilevel_decode.enabled=false"),
        ({"bilevel_decode": {"enabled": False, "relevance": {"method": "random"}}}, "bilevel_decode.enabled=false"),
        ({"sparse_prefill": {"chunk_groups": 0}}, "sparse_prefill.chunk_groups=0"),
        ({"sparse_prefill": {"previous_chunks": -1}}, "sparse_prefill.previous_chunks=-1"),
        ({"bilevel_decode": {"chunk_groups": 0}}, "bilevel_decode.chunk_groups=0"),
        ({"bilevel_decode": {"compression": 0}}, "bilevel_decode.compression=0"),
        ({"bilevel_decode": {"compression": 5}}, "does not divide the 144 visual tokens"),
        ({"bilevel_decode": {"compression": 288}}, "does not divide the 144 visual tokens"),
        ({"bilevel_decode": {"budget": {"chunks": 0}}}, "budget.chunks=0"),
        ({"bilevel_decode": {"budget": {"fraction": 0.0}}}, "budget.fraction=0.0"),
        ({"bilevel_decode": {"budget": {"fraction": 1.5}}}, "budget.fraction=1.5"),
        ({"bilevel_decode": {"budget": {"chunks": 3, "fraction": 0.5}}}, "not both"),
        ({"bilevel_decode": {"relevance": {"method": "siglipp"}}}, 'Did you mean "siglip"'),
        ({"bilevel_decode": {"relevance": {"method": "file"}}}, "needs bilevel_decode.relevance.file"),
        ({"bilevel_decode": {"relevance": {"file": "x"}}}, "file belongs to method=file, but method=attention"),
        ({"bilevel_decode": {"relevance": {"seed": 1}}}, "seed belongs to method=random"),
        ({"bilevel_decode": {"relevance": {"method": "random", "model": "x"}}}, "model belongs to method=siglip"),
        ({"bilevel_decode": {"relevance": {"method": "file", "file": "x", "on_miss": "skip"}}}, "on_miss"),
        (
            {"bilevel_decode": {"budget": {"chunks": 3}, "relevance": {"method": "file", "file": "x"}}},
            "a selection file names the dense chunks itself",
        ),
        ({"kv_store": {"device": "disk"}}, "kv_store.device"),
        ({"dtype": "fp16"}, 'dtype="fp16"'),
        ({"attention": "flash"}, 'attention="flash"'),
        ({"time_rewrite": "author"}, 'Did you mean "authors"'),
        ({"device": "gpu"}, 'device="gpu"'),
        ({"device": "cuda:x"}, 'device="cuda:x"'),
        ({"vision_batch": 6}, "vision_batch=6"),
        ({"vision_batch": 0}, "vision_batch=0"),
        ({"question_batch": 0}, "question_batch=0"),
        ({"frames": {"rule": "video_xl"}}, 'Did you mean "video_xl_2"'),
        ({"frames": {"max": 0}}, "frames.max=0"),
        ({"frames": {"fps": 0.0}}, "frames.fps=0.0"),
        ({"frames": {"max_fps": -1.0}}, "frames.max_fps=-1.0"),
        ({"frames": {"multiple_of": 0}}, "frames.multiple_of=0"),
        ({"frames": {"max": 2, "multiple_of": 4}}, "leaves no frames"),
        ({"attention": "flash_attention_2", "device": "cpu"}, "runs on CUDA only"),
        ({"attention": "flash_attention_2", "dtype": "float32"}, "dtype=float32"),
    ],
)
def test_what_cannot_work_is_said_at_once(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        structured(**values)
    assert words in str(error.value)


def test_flash_attention_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'evalkit-video\[flash\]'"):
        VideoXL2(attention="flash_attention_2")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    assert VideoXL2(attention="flash_attention_2").attention == "flash_attention_2"


def test_the_miniature() -> None:
    made = structured(VideoXL2Mini)
    assert made.dtype == "float32" and made.frames.max == 64
    assert made.remarks() == ["videoxl2_mini has random weights: its scores are chance and mean nothing"]
    with pytest.raises(ConfigError, match="model=videoxl2"):
        structured(VideoXL2Mini, checkpoint="BAAI/Video-XL-2")


def test_the_miniature_is_made_on_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    made = VideoXL2Mini()
    assert made.folder().is_relative_to(tmp_path) and (made.folder() / "config.json").is_file()
    known = made.provenance()
    assert known["checkpoint"] == made.folder().name and known["config_sha256"]


@pytest.mark.parametrize(
    ("config", "overrides", "name"),
    [
        ("videoxl2", [], "Video-XL-2"),
        ("videoxl2", ["model.checkpoint=/x/my-finetune"], "my-finetune"),
        ("videoxl2", ["model.checkpoint=/x/my-finetune/"], "my-finetune"),
        ("videoxl2", ["model.checkpoint=/x/my-finetune", "model.name=ours"], "ours"),
        ("videoxl2_mini", [], "Video-XL-2-mini"),
    ],
)
def test_two_checkpoints_are_two_models(config: str, overrides: list[str], name: str) -> None:
    made = instantiate(compose(["task=mlvu", f"model={config}", *overrides]).model, "model")
    assert made.model_id() == name


@pytest.mark.parametrize("axis", VideoXL2.axes, ids=lambda axis: axis.key)
def test_axes_are_settings(axis: Axis) -> None:
    *sections, last = axis.key.split(".")
    value: Any = VideoXL2()
    for section in sections:
        value = getattr(value, section)
    assert last in {field.name for field in fields(value)}
    assert axis.section in ("", sections[0])


def plan_of(frames: int) -> FramePlan:
    return FramePlan(tuple(range(frames)), tuple(float(i) for i in range(frames)), 1.0, frames, "test")


def test_spans_of_a_reply_cover_the_video_once() -> None:
    details = {"dense_chunks": [0, 3, 5], "chunk_frames": 8, "compression": 4}
    (line,), spans = (described := VideoXL2.describe(details, plan_of(42))).lines, described.spans
    assert line == (
        "bi-level decode: 3 of 6 chunks dense, 8 frames each; in the others 4 visual tokens averaged into one"
    )
    assert [(span.first, span.last, span.kind, span.label) for span in spans] == [
        (0, 7, "dense", "chunk 0"),
        (8, 15, "pooled", "chunk 1"),
        (16, 23, "pooled", "chunk 2"),
        (24, 31, "dense", "chunk 3"),
        (32, 39, "pooled", "chunk 4"),
        (40, 41, "dense", "chunk 5"),
    ]
    assert VideoXL2.describe({}, plan_of(42)).spans == ()
    assert VideoXL2.describe({"dense_chunks": None, "chunk_frames": 4, "compression": 1}, plan_of(42)).lines
