"""A model without a prefill: one HTTP request for each question, sixteen videos in flight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx

from evalkit.errors import ModelError, ModelUnavailable, SampleError
from evalkit.model import Answers, ModelSettings, VideoModel
from evalkit.types import Context, Decoding, FrameRequest, Prompt, Reply
from evalkit.video.resize import FixedSize


@dataclass
class Endpoint(ModelSettings):
    """`url`: of a server that answers a POST of {frames, prompt} with {reply}."""

    name: str = "endpoint"
    url: str = ""
    in_flight: int = 16

    def frames_wanted(self) -> FrameRequest:
        return FrameRequest("uniform", 4, resize=FixedSize(16, 16))

    def build(self) -> VideoModel:
        return _EndpointModel(self)


class _EndpointModel(VideoModel):
    def __init__(self, settings: Endpoint) -> None:
        self.settings = settings
        self.videos_in_flight = settings.in_flight
        self.client = httpx.Client(timeout=10)

    def answer(self, context: Context, prompts: Sequence[Prompt], decoding: Decoding) -> Answers:
        brightness = [int(frame.mean()) for batch in context.frames.batches(4) for frame in batch]
        return Answers(self._replies(brightness, prompts))

    def _replies(self, frames: list[int], prompts: Sequence[Prompt]) -> Iterator[Reply | SampleError]:
        for prompt in prompts:
            try:
                response = self.client.post(self.settings.url, json={"frames": frames, "prompt": prompt.text})
            except httpx.TransportError as error:
                yield ModelUnavailable(f"{self.settings.url} does not answer ({error}). Start the server.")
                continue
            if response.status_code == 401:
                yield ModelUnavailable("the key was refused. Set another.")
            elif response.status_code != 200:
                yield ModelError(f"HTTP {response.status_code}")
            else:
                yield Reply(response.json()["reply"])

    def close(self) -> None:
        self.client.close()
