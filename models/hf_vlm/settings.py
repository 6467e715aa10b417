"""Settings of `model=hf_vlm`: each dataclass is a section of configs/model/hf_vlm.yaml. Imports no torch."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from evalkit.errors import ConfigError, install_hint, suggest
from evalkit.model import NEUTRAL, Axis, Description, ModelSettings, VideoModel
from evalkit.types import FramePlan, FrameRequest
from evalkit.video.sampling import check

DTYPES = ("bfloat16", "float16", "float32")
ATTENTION = ("sdpa", "flash_attention_2", "eager")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
CUES = ("refuse", "after_video")
SET_BY_EVALKIT = ("do_sample_frames", "video_metadata", "num_frames", "fps", "return_tensors", "return_metadata")
"""Arguments of a video processor that evalkit decides: the frames come from its own plan."""


@dataclass
class FrameSettings:
    """Which frames are read; see evalkit/video/sampling.py for the rules."""

    rule: str = "uniform"
    max: int = 64
    fps: float = 2.0
    max_fps: float = 2.0
    multiple_of: int = 1


@dataclass
class PixelSettings:
    """The size of frames, for models that take any size (Qwen2-VL and later). All null: the checkpoint's own values.
    `max_per_frame` and `min_per_frame`: height x width of one frame. `max_total`: of all frames together."""

    max_per_frame: int | None = None
    min_per_frame: int | None = None
    max_total: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and value < 1:
                raise ConfigError(f"pixels.{name}={value}: give a number of pixels above 0, or null.")
        if self.max_per_frame is not None and (self.min_per_frame or 0) > self.max_per_frame:
            raise ConfigError(
                f"pixels.min_per_frame={self.min_per_frame} is more than pixels.max_per_frame={self.max_per_frame}."
            )

    @property
    def given(self) -> bool:
        return any(value is not None for value in vars(self).values())


@dataclass
class HFVLM(ModelSettings):
    """A checkpoint of the Hugging Face hub, or a folder, with its own processor and chat template."""

    axes: ClassVar = (
        Axis("frames.max", "frames"),
        Axis("pixels.max_per_frame", "pixels per frame"),
        Axis("pixels.max_total", "pixels of a video"),
    )

    checkpoint: str = ""
    revision: str | None = None
    dtype: str = "bfloat16"
    device: str = field(default="auto", metadata=NEUTRAL)
    device_map: str | None = field(default=None, metadata=NEUTRAL)
    attention: str = "sdpa"
    chat_template: str | None = None
    frames: FrameSettings = field(default_factory=FrameSettings)
    pixels: PixelSettings = field(default_factory=PixelSettings)
    processor: dict[str, Any] = field(default_factory=dict)
    cues: str = "refuse"
    reuse_prefix: bool = True

    def __post_init__(self) -> None:
        _one_of(DTYPES, "dtype", self.dtype)
        _one_of(ATTENTION, "attention", self.attention)
        _one_of(CUES, "cues", self.cues)
        check(self.frames_wanted())
        if not self.checkpoint:
            raise ConfigError(
                "checkpoint is not set: add model.checkpoint=<hub id or folder>, such as Qwen/Qwen2.5-VL-7B-Instruct."
            )
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ConfigError(f'device="{self.device}": choose auto, cpu, mps, cuda or cuda:<number>.')
        for name in SET_BY_EVALKIT:
            if name in self.processor:
                raise ConfigError(f"processor.{name} is decided by evalkit, which samples the frames: leave it out.")
        if self.chat_template is not None and not Path(self.chat_template).expanduser().is_file():
            raise ConfigError(f"chat_template={self.chat_template}: there is no such file. Name a Jinja file.")
        self._check_placement()

    def _check_placement(self) -> None:
        if self.attention == "flash_attention_2":
            if self.dtype == "float32" or self.device in ("cpu", "mps"):
                raise ConfigError(
                    "attention=flash_attention_2 needs CUDA and bfloat16 or float16, but "
                    f"device={self.device} and dtype={self.dtype}: use attention=sdpa."
                )
            if importlib.util.find_spec("flash_attn") is None:
                raise ConfigError(
                    f"attention=flash_attention_2 needs the package flash-attn: {install_hint('flash')}, or use "
                    "attention=sdpa."
                )
        if self.device_map is None:
            return
        _one_of(DEVICE_MAPS, "device_map", self.device_map)
        if self.device != "auto":
            raise ConfigError(
                f"device={self.device} and device_map={self.device_map} contradict each other: leave one of them out."
            )
        if importlib.util.find_spec("accelerate") is None:
            raise ConfigError(f"device_map={self.device_map} needs the package accelerate: pip install accelerate.")

    def frames_wanted(self) -> FrameRequest:
        return FrameRequest(
            rule=self.frames.rule,
            max_frames=self.frames.max,
            fps=self.frames.fps,
            max_fps=self.frames.max_fps,
            multiple_of=self.frames.multiple_of,
        )

    def source(self) -> str:
        """What `from_pretrained` gets: a hub id or a folder."""
        return self.checkpoint

    def build(self) -> VideoModel:
        from .adapter import build

        return build(self)

    def provenance(self) -> dict[str, Any]:
        from .checkpoint import provenance

        return provenance(self.source(), self.revision)

    @classmethod
    def describe(cls, details: Mapping[str, Any], plan: FramePlan) -> Description:
        return Description(tuple(f"prefix reuse: {text}" for text in [details.get("prefix_reuse")] if text))


@dataclass
class HFVLMMini(HFVLM):
    """A Qwen2.5-VL of tiny widths with random weights and a tokenizer of its own, made on first use."""

    name: str = "hf-vlm-mini"
    checkpoint: str = "mini"
    dtype: str = "float32"
    frames: FrameSettings = field(default_factory=lambda: FrameSettings(max=16))
    pixels: PixelSettings = field(default_factory=lambda: PixelSettings(max_per_frame=56 * 56))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.checkpoint != "mini" or self.revision is not None:
            raise ConfigError("hf_vlm_mini makes its own checkpoint; to name another use model=hf_vlm.")

    def source(self) -> str:
        from .mini import folder

        return str(folder())

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {"checkpoint": Path(self.source()).name}

    def remarks(self) -> list[str]:
        return ["hf_vlm_mini has random weights: its scores are chance and mean nothing"]


def _one_of(choices: tuple[str, ...], key: str, value: str) -> None:
    if value not in choices:
        raise ConfigError(f'{key}="{value}": choose {", ".join(choices)}.{suggest(value, choices)}')
