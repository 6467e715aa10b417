"""What can be set for Video-XL-2. Imports no torch: a misspelt or impossible setting is found at once.

`enabled: null` switches a mechanism on when any of its settings is given; `enabled: false` beside such a setting is an
error, because it would be ignored. After construction every switch is true or false, and what is on has all its values.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from evalkit.errors import ConfigError, install_hint
from evalkit.model import NEUTRAL, Axis, Description, Estimator, ModelSettings, VideoModel
from evalkit.types import FramePlan, FrameRequest
from evalkit.video.resize import FixedSize
from evalkit.video.sampling import check

from ..shared.layout import Chunked, Full, Policy, Streaming
from ..shared.switches import at_least, is_on, one_of, with_defaults
from .geometry import GROUP_FRAMES, IMAGE_SIZE, VISUAL_TOKENS

DTYPES = ("bfloat16", "float16", "float32")
ATTENTION = ("sdpa", "flash_attention_2", "eager", "flex")
TIME_REWRITES = ("authors", "correct", "off")
PREFILL_RULES = ("masked", "streaming")
RELEVANCE = ("attention", "siglip", "file", "uniform", "random")
ON_MISS = ("error", "dense")

OF_METHOD: dict[str, dict[str, Any]] = {
    "file": {"file": None, "on_miss": "error"},
    "random": {"seed": 0},
    "siglip": {"model": "google/siglip-so400m-patch14-384"},
}
"""The settings that belong to one method of relevance, with their defaults."""


@dataclass
class FrameSettings:
    """Which frames are read. `multiple_of: 4` drops the frames that do not fill a last group, as the authors do without
    sparse prefill; 1 keeps them and repeats the last frame's features."""

    rule: str = "video_xl_2"
    max: int = 256
    fps: float = 1.0
    max_fps: float = 4.0
    multiple_of: int = 1

    def __post_init__(self) -> None:
        at_least(1, "frames.max", self.max)
        at_least(1, "frames.multiple_of", self.multiple_of)
        for name, value in (("fps", self.fps), ("max_fps", self.max_fps)):
            if value <= 0:
                raise ConfigError(f"frames.{name}={value}: give a positive number of frames per second.")
        if self.multiple_of > self.max:
            raise ConfigError(f"frames.multiple_of={self.multiple_of} leaves no frames of frames.max={self.max}.")


@dataclass
class SparsePrefill:
    """Chunk-based prefill: visual tokens see the text, their own chunk of `chunk_groups` groups and `previous_chunks`
    chunks before it. `rule` says what the text of a group sees: masked: everything before it, as in the authors'
    evaluation code; streaming: what its visual tokens see, as in the released model's own code. Defaults when on:
    masked, 4 and 3, the authors' setting for most benchmarks."""

    enabled: bool | None = None
    chunk_groups: int | None = None
    previous_chunks: int | None = None
    rule: str | None = None

    def __post_init__(self) -> None:
        one_of(PREFILL_RULES, "sparse_prefill.rule", self.rule)
        at_least(1, "sparse_prefill.chunk_groups", self.chunk_groups)
        at_least(0, "sparse_prefill.previous_chunks", self.previous_chunks)

    def settled(self) -> SparsePrefill:
        """With `enabled` decided and, where on, the defaults filled in."""
        if not is_on(self, "sparse_prefill"):
            return SparsePrefill(enabled=False)
        return with_defaults(replace(self, enabled=True), chunk_groups=4, previous_chunks=3, rule="masked")

    def policy(self) -> Policy:
        """What the prefill lets each token see."""
        if not self.enabled:
            return Full()
        assert self.chunk_groups is not None and self.previous_chunks is not None, "settled first"
        rule = Streaming if self.rule == "streaming" else Chunked
        return rule(self.chunk_groups, self.previous_chunks)


@dataclass
class BudgetSettings:
    """How much stays dense: the `chunks` most relevant ones, or as many as fit into `fraction` of the dense KV cache.
    The first and the last chunk of a video are dense in any case."""

    chunks: int | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        at_least(1, "bilevel_decode.budget.chunks", self.chunks)
        if self.chunks is not None and self.fraction is not None:
            raise ConfigError("bilevel_decode.budget: give chunks or fraction, not both.")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ConfigError(f"bilevel_decode.budget.fraction={self.fraction}: give a share above 0, at most 1.")


@dataclass
class RelevanceSettings:
    """How chunks are ranked for a question. attention: the model's own attention. siglip: text-frame similarity by the
    SigLIP `model`. file: the authors' selection `file`; a question it lacks is an error, or reads everything with
    `on_miss: dense`. uniform, random (with `seed`): controls that do not read the question."""

    method: str | None = None
    file: str | None = None
    on_miss: str | None = None
    seed: int | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        one_of(RELEVANCE, "bilevel_decode.relevance.method", self.method)
        one_of(ON_MISS, "bilevel_decode.relevance.on_miss", self.on_miss)
        method = self.method or "attention"
        for owner, names in OF_METHOD.items():
            for name in names:
                if getattr(self, name) is not None and method != owner:
                    raise ConfigError(
                        f"bilevel_decode.relevance.{name} belongs to method={owner}, but method={method}."
                    )
        if method == "file" and not self.file:
            raise ConfigError(
                "bilevel_decode.relevance.method=file needs bilevel_decode.relevance.file=<selection file or folder>; "
                "in the experiments video_xl_2/... that is vars.selected_infos=<the authors' folder selected_infos>."
            )

    def settled(self) -> RelevanceSettings:
        """With the method and the defaults of its settings."""
        method = self.method or "attention"
        return with_defaults(self, method=method, **OF_METHOD.get(method, {}))


@dataclass
class BilevelDecode:
    """Bi-level KV cache for a question: dense for the relevant chunks of `chunk_groups` groups, elsewhere visual keys
    and values averaged over `compression` tokens. Defaults when on: 4 groups, compression 4, five chunks by attention.
    A selection file brings its own chunk size, compression and budget; the first two can be overridden."""

    enabled: bool | None = None
    compression: int | None = None
    chunk_groups: int | None = None
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    relevance: RelevanceSettings = field(default_factory=RelevanceSettings)

    def __post_init__(self) -> None:
        at_least(1, "bilevel_decode.chunk_groups", self.chunk_groups)
        at_least(1, "bilevel_decode.compression", self.compression)
        if self.compression is not None and VISUAL_TOKENS % self.compression:
            divisors = ", ".join(str(n) for n in range(1, VISUAL_TOKENS + 1) if VISUAL_TOKENS % n == 0)
            raise ConfigError(
                f"bilevel_decode.compression={self.compression} does not divide the {VISUAL_TOKENS} visual tokens of a "
                f"group: choose one of {divisors}."
            )
        if self.relevance.method == "file" and self.budget != BudgetSettings():
            raise ConfigError(
                "bilevel_decode.budget: a selection file names the dense chunks itself: leave the budget out."
            )

    def settled(self) -> BilevelDecode:
        """With `enabled` decided and, where on, the defaults filled in."""
        if not is_on(self, "bilevel_decode"):
            return BilevelDecode(enabled=False)
        on = replace(self, enabled=True, relevance=self.relevance.settled())
        if on.relevance.method == "file":
            return on
        budget = BudgetSettings(chunks=5) if on.budget == BudgetSettings() else on.budget
        return with_defaults(replace(on, budget=budget), compression=4, chunk_groups=4)


@dataclass
class KVStoreSettings:
    """Where the keys and values of a video live: `model` (the model's device) or `cpu`. `folder`: where prefilled
    videos are kept on disk, at most `folder_gb` of them, for settings that differ in bilevel_decode alone."""

    device: str = "model"
    folder: str | None = None
    folder_gb: float = 100.0

    def __post_init__(self) -> None:
        one_of(("model", "cpu"), "kv_store.device", self.device)
        if self.folder_gb <= 0:
            raise ConfigError(f"kv_store.folder_gb={self.folder_gb}: give a number above 0.")


@dataclass
class VideoXL2(ModelSettings):
    """Video-XL-2 (github.com/VectorSpaceLab/Video-XL, arXiv 2506.19225). `checkpoint` is a hub id or a folder."""

    axes: ClassVar = (
        Axis("frames.max", "frames"),
        Axis("sparse_prefill.chunk_groups", "groups in a prefill chunk", section="sparse_prefill"),
        Axis("sparse_prefill.previous_chunks", "previous chunks", section="sparse_prefill"),
        Axis("bilevel_decode.compression", "compression ratio", "ratio", "bilevel_decode", off=1.0),
        Axis("bilevel_decode.chunk_groups", "groups in a bi-level chunk", section="bilevel_decode"),
        Axis("bilevel_decode.budget.chunks", "dense chunks", section="bilevel_decode"),
        Axis("bilevel_decode.budget.fraction", "budget of dense KV", "ratio", "bilevel_decode", off=1.0),
    )

    checkpoint: str = "BAAI/Video-XL-2"
    revision: str | None = None
    dtype: str = "bfloat16"
    device: str = field(default="auto", metadata=NEUTRAL)
    attention: str = "sdpa"
    frames: FrameSettings = field(default_factory=FrameSettings)
    sparse_prefill: SparsePrefill = field(default_factory=SparsePrefill)
    bilevel_decode: BilevelDecode = field(default_factory=BilevelDecode)
    kv_store: KVStoreSettings = field(default_factory=KVStoreSettings, metadata=NEUTRAL)
    time_rewrite: str = "authors"
    vision_batch: int = field(default=32, metadata=NEUTRAL)
    question_batch: int = 1  # sums in another order may flip an answer where two tokens are all but equally likely

    def __post_init__(self) -> None:
        one_of(DTYPES, "dtype", self.dtype)
        one_of(ATTENTION, "attention", self.attention)
        one_of(TIME_REWRITES, "time_rewrite", self.time_rewrite)
        at_least(1, "question_batch", self.question_batch)
        check(self.frames_wanted())
        if self.vision_batch < GROUP_FRAMES or self.vision_batch % GROUP_FRAMES:
            raise ConfigError(
                f"vision_batch={self.vision_batch}: give a multiple of {GROUP_FRAMES}, the frames of a group."
            )
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ConfigError(f'device="{self.device}": choose auto, cpu, mps, cuda or cuda:<number>.')
        if self.attention == "flash_attention_2":
            self._check_flash()
        self.sparse_prefill = self.sparse_prefill.settled()
        self.bilevel_decode = self.bilevel_decode.settled()
        if self.kv_store.folder and not self.bilevel_decode.enabled:
            raise ConfigError(
                "kv_store.folder is shared by settings of bilevel_decode, and does nothing without: leave it out, or "
                "compare with bilevel_decode.compression=1, which pools nothing."
            )
        if self.kv_store.folder and self.bilevel_decode.relevance.method == "siglip":
            raise ConfigError(
                "kv_store.folder holds no frames, which relevance.method=siglip has to see: leave it out."
            )
        if self.question_batch > 1 and self.bilevel_decode.enabled:
            raise ConfigError(
                f"question_batch={self.question_batch}: with bilevel_decode each question has a KV cache of its own, "
                "so questions cannot share one. Leave question_batch=1."
            )

    def _check_flash(self) -> None:
        if self.device in ("cpu", "mps"):
            raise ConfigError(
                f"attention=flash_attention_2 runs on CUDA only, but device={self.device}: use attention=sdpa."
            )
        if self.dtype == "float32":
            raise ConfigError(
                "attention=flash_attention_2 computes in bfloat16 or float16, but dtype=float32: use attention=sdpa."
            )
        if importlib.util.find_spec("flash_attn") is None:
            raise ConfigError(
                f"attention=flash_attention_2 needs the package flash-attn: {install_hint('flash')}, or use "
                "attention=sdpa."
            )

    def frames_wanted(self) -> FrameRequest:
        return FrameRequest(
            rule=self.frames.rule,
            max_frames=self.frames.max,
            fps=self.frames.fps,
            max_fps=self.frames.max_fps,
            multiple_of=self.frames.multiple_of,
            resize=FixedSize(IMAGE_SIZE, IMAGE_SIZE),
        )

    def folder(self) -> Path:
        """The checkpoint's folder on this machine, fetched or made if need be. Raises CheckpointError."""
        from ..shared.checkpoint_folder import resolve

        return resolve(self.checkpoint, self.revision)

    @classmethod
    def describe(cls, details: Mapping[str, Any], plan: FramePlan) -> Description:
        from .details import describe

        return describe(details, plan)

    def build(self) -> VideoModel:
        from .adapter import build

        return build(self)

    def estimator(self) -> Estimator:
        from ..shared.checkpoint_folder import cached
        from .estimate import estimator

        return estimator(self, cached(self.checkpoint, self.revision))

    def generation_defaults(self, fetch: bool) -> dict[str, Any]:
        from ..shared.checkpoint_folder import generation_config

        return asdict(generation_config(self.checkpoint, self.revision, fetch))

    def prepare(self) -> None:
        self.folder()

    def provenance(self) -> dict[str, Any]:
        from ..shared.checkpoint_folder import provenance

        return provenance(self.checkpoint, self.revision)


@dataclass
class VideoXL2Mini(VideoXL2):
    """A miniature of Video-XL-2 with random weights, made on first use: the same code, the same shapes of tokens and
    cache, on any machine and without network."""

    name: str = "Video-XL-2-mini"
    checkpoint: str = "mini"
    dtype: str = "float32"
    frames: FrameSettings = field(default_factory=lambda: FrameSettings(max=64))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.checkpoint != "mini" or self.revision is not None:
            raise ConfigError("videoxl2_mini makes its own checkpoint; to name another use model=videoxl2.")

    def folder(self) -> Path:
        from .mini import folder

        return folder()

    def estimator(self) -> Estimator:
        from .estimate import estimator
        from .mini_folder import miniature

        made = miniature()
        return estimator(self, made if made.is_dir() else self.folder())

    def generation_defaults(self, fetch: bool) -> dict[str, Any]:
        return {}

    def provenance(self) -> dict[str, Any]:
        from ..shared.checkpoint_folder import provenance

        folder = self.folder()
        return provenance(str(folder)) | {"checkpoint": folder.name}

    def remarks(self) -> list[str]:
        return ["videoxl2_mini has random weights: its scores are chance and mean nothing"]
