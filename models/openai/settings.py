"""What can be set for a chat endpoint. Imports no HTTP client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from evalkit.clients.endpoint import ChatSettings
from evalkit.errors import ConfigError, suggest
from evalkit.model import NEUTRAL, Axis, Estimator, ModelSettings, VideoModel
from evalkit.types import FrameRequest
from evalkit.video.resize import LongestSide
from evalkit.video.sampling import check

SEND_AS = ("images", "video_url")
DETAIL = ("low", "high", "auto")
ANSWER_PREFIX = ("append", "continue")
LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")
SAMPLING_FIELDS = ("temperature", "top_p", "seed")
_OWN_FIELDS = (
    "repetition_penalty",
    *("model", "messages", "stream", "n", "continue_final_message", "add_generation_prompt", "media_io_kwargs"),
    *LIMIT_FIELDS,
    *SAMPLING_FIELDS,
)
_READS_FPS = {"fps": ("fps",), "video_xl_2": ("fps", "max_fps")}
_NO_FPS = ("uniform", "uniform_inside", "longvideobench", "whole_seconds", "midpoints", "haystack")


@dataclass
class FrameSettings:
    """Which frames are sent, and how.

    `rule`, `max`, `fps`, `max_fps`: the sampling rule and its parameters (`evalkit.video.sampling`); null: the rule's
    own value, and the only value for a rule that does not read it.
    `longest_side`: pixels; larger frames are shrunk to it, smaller ones stay. null: as in the file.
    `jpeg_quality`: 1 to 100.
    `send_as`: images (one image part a frame: every server) or video_url (all frames as one video part, in vLLM's form
    `data:video/jpeg;base64,...`, with their times in `media_io_kwargs`).
    `detail`: OpenAI's `detail` of an image: low, high or auto; null: not sent.
    """

    rule: str = "uniform"
    max: int = 64
    fps: float | None = None
    max_fps: float | None = None
    longest_side: int | None = 768
    jpeg_quality: int = 90
    send_as: str = "images"
    detail: str | None = None

    def __post_init__(self) -> None:
        _one_of(SEND_AS, "frames.send_as", self.send_as)
        if self.detail is not None:
            _one_of(DETAIL, "frames.detail", self.detail)
            if self.send_as != "images":
                raise ConfigError(f"model.frames.detail belongs to frames.send_as=images, not {self.send_as}.")
        if self.longest_side is not None and self.longest_side < 1:
            raise ConfigError(f"model.frames.longest_side={self.longest_side}: give at least 1 pixel, or null.")
        if not 1 <= self.jpeg_quality <= 100:
            raise ConfigError(f"model.frames.jpeg_quality={self.jpeg_quality}: give 1 to 100.")
        for name in ("fps", "max_fps"):
            read = _READS_FPS.get(self.rule, () if self.rule in _NO_FPS else ("fps", "max_fps"))
            if getattr(self, name) is not None and name not in read:
                raise ConfigError(f"model.frames.{name} is not read by frames.rule={self.rule}: leave it out.")

    def request(self) -> FrameRequest:
        given = {name: value for name in ("fps", "max_fps") if (value := getattr(self, name)) is not None}
        resize = None if self.longest_side is None else LongestSide(self.longest_side, enlarge=False)
        return FrameRequest(self.rule, self.max, resize=resize, **given)


@dataclass
class Price:
    """Dollars for a million tokens; both or neither."""

    input: float | None = None
    output: float | None = None

    def __post_init__(self) -> None:
        if (self.input is None) != (self.output is None):
            raise ConfigError("model.price: give both price.input and price.output, in dollars for a million tokens.")
        if min(self.input or 0.0, self.output or 0.0) < 0:
            raise ConfigError("model.price: a price must not be negative.")

    def dollars(self, input_tokens: int, output_tokens: int) -> float | None:
        """None where no price is set."""
        if self.input is None or self.output is None:
            return None
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


@dataclass
class OpenAI(ModelSettings):
    """Any chat endpoint with OpenAI's interface: vLLM, SGLang, LMDeploy, GPT, Gemini.

    `base_url`: ends in `/v1` for most servers. `model`: the name under which the server serves the model.
    `api_key_env`: the *name* of the environment variable with the key; empty: the server needs none.
    `answer_prefix`: what becomes of words that a protocol puts into the assistant's mouth. append: they end the
    question, which every server can do. continue: they begin the reply (`continue_final_message`: vLLM, SGLang).
    `limit_field`: the request field for the number of new tokens; OpenAI's newer models want max_completion_tokens.
    `omit`: which of temperature, top_p and seed are not sent, for servers that refuse them.
    `extra`: further fields of each request, such as `{top_k: 1}`.
    `concurrency`: requests at the same time. `requests_per_minute`: 0 sets no limit.
    `timeout_s`, `retries`: of one request, see `evalkit.clients.endpoint`. `max_calls`: of one command.
    `price`: dollars for a million tokens. `max_dollars`: of one command; once it is spent, no request is sent. Those
    under way at that moment are paid on top.
    With executor=ray, concurrency, requests_per_minute, max_calls and max_dollars hold for each worker.
    `tokens_per_frame`: what the server counts for a frame, for the dry run.
    """

    base_url: str = ""
    model: str = ""
    api_key_env: str = field(default="", metadata=NEUTRAL)
    frames: FrameSettings = field(default_factory=FrameSettings)
    answer_prefix: str = "append"
    limit_field: str = "max_tokens"
    omit: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    concurrency: int = field(default=16, metadata=NEUTRAL)
    requests_per_minute: float = field(default=0.0, metadata=NEUTRAL)
    timeout_s: float = field(default=600.0, metadata=NEUTRAL)
    retries: int = field(default=5, metadata=NEUTRAL)
    max_calls: int | None = field(default=None, metadata=NEUTRAL)
    price: Price = field(default_factory=Price, metadata=NEUTRAL)
    max_dollars: float | None = field(default=None, metadata=NEUTRAL)
    tokens_per_frame: int | None = field(default=None, metadata=NEUTRAL)

    axes: ClassVar = (Axis("frames.max", "frames"), Axis("frames.longest_side", "longest side of a frame"))

    def __post_init__(self) -> None:
        _one_of(ANSWER_PREFIX, "answer_prefix", self.answer_prefix)
        _one_of(LIMIT_FIELDS, "limit_field", self.limit_field)
        for name in self.omit:
            _one_of(SAMPLING_FIELDS, "omit", name)
        if own := [name for name in self.extra if name in _OWN_FIELDS]:
            raise ConfigError(f"model.extra.{own[0]}: evalkit sets this field itself, from other settings.")
        if self.concurrency < 1:
            raise ConfigError(f"model.concurrency={self.concurrency}: give at least 1.")
        if self.max_dollars is not None and (self.max_dollars <= 0 or self.price.input is None):
            raise ConfigError("model.max_dollars must be above 0, and needs model.price.input and model.price.output.")
        if self.tokens_per_frame is not None and self.tokens_per_frame < 1:
            raise ConfigError(f"model.tokens_per_frame={self.tokens_per_frame}: give at least 1.")
        check(self.frames_wanted())
        self.endpoint().check("model")

    def endpoint(self) -> ChatSettings:
        most = 2**63 if self.max_calls is None else self.max_calls
        return ChatSettings(
            *(self.base_url, self.model, self.api_key_env, self.timeout_s, self.retries, most, self.requests_per_minute)
        )

    def frames_wanted(self) -> FrameRequest:
        return self.frames.request()

    def build(self) -> VideoModel:
        from .endpoint import EndpointModel

        return EndpointModel(self)

    def model_id(self) -> str:
        return self.name or self.model.rstrip("/").rpartition("/")[2]

    def provenance(self) -> dict[str, Any]:
        """What the server says of the model in `GET /models`. Raises ChatError where it cannot be asked."""
        from .served import served_model

        return {"base_url": self.base_url, "model": self.model, "served": served_model(self.endpoint())}

    def estimator(self) -> Estimator:
        from .estimate import EndpointEstimator

        return EndpointEstimator(self)


def _one_of(choices: tuple[str, ...], name: str, value: str) -> None:
    if value not in choices:
        raise ConfigError(f'model.{name}="{value}": choose {" or ".join(choices)}.{suggest(value, choices)}')
