"""The model behind a chat endpoint: one request for each question, `concurrency` of them at the same time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from evalkit.clients.chat import ChatClient
from evalkit.clients.connection import ChatReply
from evalkit.clients.endpoint import ChatError, EndpointStopped
from evalkit.errors import ModelError, ModelUnavailable, SampleError
from evalkit.model import Answers, VideoModel
from evalkit.types import Context, Decoding, PrefillCost, Prompt, Reply

from .frames import Part, as_text, encoded, times, video_parts
from .settings import OpenAI
from .spending import Spending

_ENDS = {"length": "length"}


@dataclass(frozen=True)
class Chat:
    """What the requests of one video share: `system` text, the `video` as parts of the user's message, and the request
    fields (`parameters`) without what belongs to a question."""

    system: str | None
    video: list[Part]
    parameters: dict[str, Any]


class EndpointModel(VideoModel):
    """Sends requests from a pool of threads that all videos share, so that `concurrency` bounds them all."""

    def __init__(self, settings: OpenAI) -> None:
        self.settings = settings
        self.videos_in_flight = settings.concurrency
        self.client = ChatClient(settings.endpoint(), "model")
        self.spending = Spending(settings.price, settings.max_dollars)
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="model requests")

    def answer(self, context: Context, prompts: Sequence[Prompt], decoding: Decoding) -> Answers:
        """See `VideoModel`. The video is encoded once and sent with each question."""
        self._check(context)
        chat = self._chat(context, decoding)
        waiting = [self._pool.submit(self._reply, chat, prompt) for prompt in prompts]
        cost = PrefillCost(frames=len(context.frames.plan))
        return Answers(_results(waiting), cost, as_text(context, self.settings.frames), lambda: _cancel(waiting))

    def close(self) -> None:
        """End the requests under way; their replies are lost, and asked for again by the next command."""
        self.client.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _check(self, context: Context) -> None:
        if context.cues and self.settings.frames.send_as == "video_url":
            raise ModelUnavailable(
                "This protocol puts subtitles between the frames, and a video part has no place for them: set "
                "model.frames.send_as=images.",
                "unavailable",
            )

    def _chat(self, context: Context, decoding: Decoding) -> Chat:
        settings = self.settings
        sampling = {"temperature": decoding.temperature, "top_p": decoding.top_p, "seed": decoding.seed}
        if decoding.repetition_penalty is not None:  # not in OpenAI's interface; vLLM and SGLang have it
            sampling["repetition_penalty"] = decoding.repetition_penalty
        parameters = {
            settings.limit_field: decoding.max_new_tokens,
            **{name: value for name, value in sampling.items() if name not in settings.omit},
            **(times(context.frames.plan) if settings.frames.send_as == "video_url" else {}),
            **settings.extra,
        }
        frames = encoded(context, settings.frames)
        return Chat(context.system, video_parts(frames, context.cues, settings.frames), parameters)

    def _reply(self, chat: Chat, prompt: Prompt) -> Reply | SampleError:
        """Ask one question, in a thread of the pool."""
        text, continued = self._question(prompt)
        messages: list[dict[str, Any]] = [{"role": "system", "content": chat.system}] if chat.system else []
        messages.append({"role": "user", "content": [*chat.video, {"type": "text", "text": text}]})
        parameters = chat.parameters
        if continued:
            messages.append({"role": "assistant", "content": continued})
            parameters = {**parameters, "continue_final_message": True, "add_generation_prompt": False}
        started = time.perf_counter()
        try:
            self.spending.check()
            reply = self.client.complete(messages, **parameters)
        except SampleError as error:
            return error
        except EndpointStopped as error:
            return ModelUnavailable(str(error), "unavailable")
        except ChatError as error:
            return ModelError(str(error))
        return self._as_reply(reply, text + continued, time.perf_counter() - started)

    def _question(self, prompt: Prompt) -> tuple[str, str]:
        """The user's text, and the words that begin the reply ('' where there are none)."""
        if not prompt.answer_prefix or self.settings.answer_prefix == "continue":
            return prompt.text, prompt.answer_prefix
        gap = "" if prompt.text.endswith("\n") else "\n"
        return f"{prompt.text}{gap}{prompt.answer_prefix}", ""

    def _as_reply(self, reply: ChatReply, prompt: str, seconds: float) -> Reply:
        dollars = self.spending.add(reply)
        details = {"model": reply.model or None, "dollars": dollars}
        finish = _ENDS.get(reply.finish, "stop")
        unusual = reply.finish not in ("", "stop", "length")
        return Reply(
            text=reply.text,
            prompt=prompt,
            prompt_tokens=reply.prompt_tokens or None,
            new_tokens=reply.completion_tokens if reply.prompt_tokens else None,
            question_s=seconds,
            finish=finish,
            details={name: value for name, value in details.items() if value is not None},
            remarks=(f'the endpoint ended the reply with "{reply.finish}"',) if unusual else (),
        )


def _results(waiting: Sequence[Future[Reply | SampleError]]) -> Iterator[Reply | SampleError]:
    for future in waiting:
        yield future.result()


def _cancel(waiting: Sequence[Future[Reply | SampleError]]) -> None:
    for future in waiting:
        future.cancel()
