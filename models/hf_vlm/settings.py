"""Settings of `model=hf_vlm`: each dataclass is a section of configs/model/hf_vlm.yaml. Imports no torch."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from evalkit.errors import ConfigError, install_hint
from evalkit.model import NEUTRAL, Axis, Description, ModelSettings, VideoModel
from evalkit.types import FramePlan, FrameRequest
from evalkit.video.resize import PixelBudget
from evalkit.video.sampling import check

from ..shared.switches import at_least, one_of

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
    """The size of frames, for models that take any size (Qwen2-VL and later); see `evalkit.video.resize.PixelBudget`.
    `per_frame_max` and `per_frame_min`: height x width of one frame. `total_max`: of all frames together. All null: the
    checkpoint's own processor resizes. `multiple_of`: the side of the square of pixels that becomes one token."""

    per_frame_max: int | None = None
    per_frame_min: int | None = None
    total_max: int | None = None
    multiple_of: int = 28

    def __post_init__(self) -> None:
        if self.per_frame_min is not None and self.per_frame_max is None and self.total_max is None:
            raise ConfigError(
                f"pixels.per_frame_min={self.per_frame_min} needs pixels.per_frame_max or pixels.total_max beside it."
            )
        self.budget()

    @property
    def given(self) -> bool:
        return self.per_frame_max is not None or self.total_max is not None

    def budget(self) -> PixelBudget | None:
        """How frames are resized as they are decoded; None: not at all. Raises ConfigError."""
        most = self.total_max if self.per_frame_max is None else self.per_frame_max
        return None if most is None else PixelBudget(most, self.per_frame_min or 0, self.total_max, self.multiple_of)


@dataclass
class HFVLM(ModelSettings):
    """A checkpoint of the Hugging Face hub, or a folder, with its own processor and chat template."""

    axes: ClassVar = (
        Axis("frames.max", "frames"),
        Axis("pixels.per_frame_max", "pixels per frame"),
        Axis("pixels.total_max", "pixels of a video"),
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
    question_batch: int = 1  # sums in another order may flip an answer where two tokens are all but equally likely

    def __post_init__(self) -> None:
        one_of(DTYPES, "dtype", self.dtype)
        one_of(ATTENTION, "attention", self.attention)
        one_of(CUES, "cues", self.cues)
        at_least(1, "question_batch", self.question_batch)
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
        if self.question_batch > 1 and not self.reuse_prefix:
            raise ConfigError(
                f"question_batch={self.question_batch}: questions are answered together from one prefill, but "
                "reuse_prefix=false. Leave question_batch=1."
            )
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
        one_of(DEVICE_MAPS, "device_map", self.device_map)
        if self.device != "auto":
            raise ConfigError(
                f"device={self.device} and device_map={self.device_map} contradict each other: leave one of them out."
            )
        if importlib.util.find_spec("accelerate") is None:
            raise ConfigError(f"device_map={self.device_map} needs the package accelerate: {install_hint('shard')}.")

    def frames_wanted(self) -> FrameRequest:
        return FrameRequest(
            rule=self.frames.rule,
            max_frames=self.frames.max,
            fps=self.frames.fps,
            max_fps=self.frames.max_fps,
            multiple_of=self.frames.multiple_of,
            resize=self.pixels.budget(),
        )

    def source(self) -> str:
        """What `from_pretrained` gets: a hub id or a folder."""
        return self.checkpoint

    def build(self) -> VideoModel:
        from .adapter import build

        return build(self)

    def provenance(self) -> dict[str, Any]:
        from ..shared.checkpoint_folder import provenance

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
    pixels: PixelSettings = field(default_factory=lambda: PixelSettings(per_frame_max=56 * 56))

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
