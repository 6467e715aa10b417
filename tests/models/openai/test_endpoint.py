"""The requests of model=openai, and its replies, against a real HTTP server that is slow, refuses, breaks off and sends
nonsense. Frames are made in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from evalkit.config import identity
from evalkit.errors import ConfigError, ModelError, ModelUnavailable, SampleError
from evalkit.models.openai import OpenAI
from evalkit.models.openai.settings import FrameSettings, Price
from evalkit.types import Context, Cue, Decoding, Prompt, Reply
from tests.clients.endpoint import Endpoint, completion

from .conftest import OK
from .frames_in_memory import brightness, context, images, picture

Ask = Callable[..., list[Reply | SampleError]]


@pytest.fixture
def ask(endpoint: Endpoint) -> Iterator[Ask]:
    def asked(
        *prompts: Prompt | str, about: Context | None = None, decoding: Decoding | None = None, **settings: Any
    ) -> list[Reply | SampleError]:
        model = OpenAI(base_url=endpoint.url, model="m-7b", **{"retries": 0, **settings}).build()
        with closing(model):
            given = [Prompt(p) if isinstance(p, str) else p for p in prompts]
            answers = model.answer(about or context(), given, decoding or Decoding())
            return list(answers.replies)

    yield asked


def only(replies: list[Reply | SampleError]) -> Reply:
    (reply,) = replies
    assert isinstance(reply, Reply), reply
    return reply


def error(replies: list[Reply | SampleError]) -> SampleError:
    (found,) = replies
    assert isinstance(found, SampleError), found
    return found


def test_what_is_sent(ask: Ask, endpoint: Endpoint) -> None:
    decoding = Decoding(max_new_tokens=32, temperature=0.5, top_p=0.9, seed=7)
    only(ask("What?", about=context(3, system="Be brief."), decoding=decoding, extra={"top_k": 5}))
    (request,) = endpoint.requests
    system, user = request.pop("messages")
    assert request == {
        "path": "/v1/chat/completions",
        "model": "m-7b",
        "max_tokens": 32,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "top_k": 5,
    }
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["image_url"] * 3 + ["text"]
    assert user["content"][-1]["text"] == "What?"
    sent = images({"messages": [user]})
    assert [image.size for image in sent] == [(64, 36)] * 3
    assert [round(brightness(image), -1) for image in sent] == [0, 20, 40]


def test_fields_that_a_server_does_not_take_are_left_out(ask: Ask, endpoint: Endpoint) -> None:
    only(ask("What?", omit=["temperature", "top_p", "seed"], limit_field="max_completion_tokens"))
    assert endpoint.requests[0].keys() == {"path", "model", "messages", "max_completion_tokens"}
    only(ask("What?", decoding=Decoding(repetition_penalty=1.1)))
    assert endpoint.requests[1]["repetition_penalty"] == 1.1, "only where it is set: not every server has it"


def test_frames_are_shrunk_to_the_longest_side_and_never_enlarged() -> None:
    resize = settings(frames=FrameSettings(longest_side=60)).frames_wanted().resize
    assert resize is not None
    assert resize.size_for(40, 120, 1) == (20, 60) and resize.size_for(12, 20, 1) == (12, 20)
    assert settings(frames=FrameSettings(longest_side=None)).frames_wanted().resize is None


def test_jpeg_quality_and_detail(ask: Ask, endpoint: Endpoint) -> None:
    only(ask("?", about=context(1, size=(64, 64)), frames=FrameSettings(detail="low", jpeg_quality=20)))
    only(ask("?", about=context(1, size=(64, 64)), frames=FrameSettings(detail="low", jpeg_quality=95)))
    tables = [images(request)[0].quantization[0][0] for request in endpoint.requests]  # type: ignore[attr-defined]
    assert tables[0] > 4 * tables[1], "coarser steps"
    assert endpoint.requests[0]["messages"][0]["content"][0]["image_url"]["detail"] == "low"


def test_subtitles_stand_between_the_frames(ask: Ask, endpoint: Endpoint) -> None:
    about = context(3, cues=[Cue(1, "hello"), Cue(3, "bye")])
    only(ask("What?", about=about))
    shown = [part.get("text", "frame") for part in endpoint.requests[0]["messages"][0]["content"]]
    assert shown == ["frame", "hello", "frame", "frame", "bye", "What?"]


def test_all_frames_as_one_video_part(ask: Ask, endpoint: Endpoint) -> None:
    only(ask("What?", about=context(40), frames=FrameSettings(send_as="video_url")))
    (request,) = endpoint.requests
    part, text = request["messages"][0]["content"]
    assert text == {"type": "text", "text": "What?"}
    frames = part["video_url"]["url"].removeprefix("data:video/jpeg;base64,").split(",")
    assert [round(brightness(picture(frame)), -1) for frame in frames[:4]] == [0, 20, 40, 60]
    assert request["media_io_kwargs"] == {
        "video": {
            "num_frames": 40,
            "fps": 10.0,
            "total_num_frames": 400,
            "duration": 40.0,
            "frames_indices": list(range(0, 400, 10)),
        }
    }
    assert len(frames) == 40, "vLLM keeps 32 unless num_frames says otherwise"


def test_subtitles_have_no_place_in_a_video_part(ask: Ask, endpoint: Endpoint) -> None:
    with pytest.raises(ModelUnavailable, match=r"model\.frames\.send_as=images"):
        ask("What?", about=context(2, cues=[Cue(1, "hello")]), frames=FrameSettings(send_as="video_url"))
    assert endpoint.requests == []


def test_words_in_the_assistants_mouth(ask: Ask, endpoint: Endpoint) -> None:
    prompt = Prompt("What?\nA. x", answer_prefix="Best option: (")
    appended = only(ask(prompt))
    (message,) = endpoint.requests[0]["messages"]
    assert message["content"][-1]["text"] == appended.prompt == "What?\nA. x\nBest option: ("
    assert "continue_final_message" not in endpoint.requests[0]
    continued = only(ask(prompt, answer_prefix="continue"))
    user, assistant = endpoint.requests[1]["messages"]
    assert user["content"][-1]["text"] == "What?\nA. x"
    assert assistant == {"role": "assistant", "content": "Best option: ("}
    assert endpoint.requests[1]["continue_final_message"] is True
    assert endpoint.requests[1]["add_generation_prompt"] is False
    assert continued.prompt == "What?\nA. xBest option: ("
    only(ask("What?", answer_prefix="continue"))
    assert "continue_final_message" not in endpoint.requests[2], "nothing to continue"
    assert identity(settings(answer_prefix="continue")) != identity(settings())


def test_usage_and_finish(ask: Ask, endpoint: Endpoint) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "B"}}
    endpoint.script = [
        (200, completion("A", usage={"prompt_tokens": 7, "completion_tokens": 0}), {}),
        (200, completion("B", choices=[{**choice, "finish_reason": "length"}]), {}),
        (200, completion("", choices=[{**choice, "finish_reason": "content_filter"}]), {}),
    ]
    counted, cut, filtered = (only(ask("?", price=Price(2.0, 8.0))) for _ in range(3))
    assert (counted.prompt_tokens, counted.new_tokens, counted.finish) == (7, 0, "stop")
    assert counted.details["dollars"] == pytest.approx(14e-6)
    assert (cut.prompt_tokens, cut.new_tokens, cut.finish) == (None, None, "length"), "not measured is not 0"
    assert cut.details == {}
    assert filtered.remarks == ('the endpoint ended the reply with "content_filter"',)


def test_requests_are_under_way_together_and_never_more_than_concurrency(ask: Ask, endpoint: Endpoint) -> None:
    endpoint.delay_s = 0.2
    replies = ask(*map(str, range(8)), concurrency=4)
    assert endpoint.most_at_once == 4
    assert all(isinstance(reply, Reply) for reply in replies)


def test_replies_come_in_the_order_of_the_questions(ask: Ask, endpoint: Endpoint) -> None:
    def slow_first(body: dict[str, Any]) -> bytes:
        text = body["messages"][-1]["content"][-1]["text"]
        return completion(text)

    endpoint.reply = slow_first
    endpoint.delay_s = 0.05
    names = [str(i) for i in range(6)]
    assert [reply.text for reply in ask(*names, concurrency=3) if isinstance(reply, Reply)] == names


def test_requests_per_minute(ask: Ask, endpoint: Endpoint) -> None:
    started = time.monotonic()
    ask(*map(str, range(4)), requests_per_minute=600)
    assert 0.3 <= time.monotonic() - started < 5
    assert len(endpoint.requests) == 4


def test_failures_that_pass_are_repeated_after_the_servers_own_wait(ask: Ask, endpoint: Endpoint) -> None:
    wait = {"Retry-After": "0.05"}
    endpoint.script = [(429, b"slow down", wait), (500, b"oops", wait), OK]
    assert only(ask("?", retries=2)).text == "A"
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((500, b"oops", {}), "HTTP 500: oops"),
        ((429, b"slow down", {}), "HTTP 429: slow down"),
        ((200, b"<html>hello", {}), "not a chat completion"),
        ((400, b'{"error": "no images"}', {}), "does not accept this request"),
    ],
)
def test_what_keeps_failing_costs_its_question(ask: Ask, endpoint: Endpoint, reply: Any, message: str) -> None:
    endpoint.script = [reply]
    found = error(ask("?"))
    assert type(found) is ModelError and message in str(found)


def test_a_reply_that_breaks_off_or_never_ends(ask: Ask, endpoint: Endpoint) -> None:
    endpoint.breaks_off = True
    assert "broke off" in str(error(ask("?")))
    endpoint.breaks_off, endpoint.drip_s = False, 0.05
    assert "no complete reply within 0.3 s" in str(error(ask("?", timeout_s=0.3)))


def test_a_limit_of_requests_is_fatal(ask: Ask, endpoint: Endpoint) -> None:
    *answered, last = ask("1", "2", "3", max_calls=2, concurrency=1)
    assert all(isinstance(reply, Reply) for reply in answered)
    assert isinstance(last, ModelUnavailable) and "raise model.max_calls" in str(last)
    assert len(endpoint.requests) == 2


def test_a_spending_limit_needs_token_counts(ask: Ask, endpoint: Endpoint) -> None:
    endpoint.script = [(200, completion("A"), {})]
    first, second = ask("1", "2", price=Price(1.0, 1.0), max_dollars=1.0, concurrency=1)
    assert isinstance(first, Reply)
    assert isinstance(second, ModelUnavailable) and "model.max_dollars cannot be kept" in str(second)


def test_closing_ends_what_is_under_way(endpoint: Endpoint) -> None:
    endpoint.delay_s = 5
    model = OpenAI(base_url=endpoint.url, model="m-7b").build()
    model.answer(context(1), [Prompt("?")], Decoding())
    while not endpoint.requests:
        time.sleep(0.01)
    started = time.monotonic()
    model.close()
    assert time.monotonic() - started < 1


def settings(**given: Any) -> OpenAI:
    return OpenAI(**{"base_url": "http://localhost:8000/v1", "model": "me/m-7b", **given})


def test_the_name_is_the_served_models() -> None:
    assert settings().model_id() == "m-7b"
    assert settings(name="mine").model_id() == "mine"


def test_what_cannot_change_an_answer_is_not_in_the_key() -> None:
    same = {
        "api_key_env": "MY_KEY",
        "concurrency": 2,
        "requests_per_minute": 3.0,
        "timeout_s": 4.0,
        "retries": 1,
        "max_calls": 9,
        "price": Price(1.0, 2.0),
        "max_dollars": 5.0,
        "tokens_per_frame": 258,
    }
    assert identity(settings(**same)) == identity(settings())
    for other in ({"extra": {"top_k": 1}}, {"frames": FrameSettings(jpeg_quality=80)}, {"base_url": "http://b/v1"}):
        assert identity(settings(**other)) != identity(settings())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: settings(base_url="localhost"), r"model\.base_url"),
        (lambda: settings(model=""), r"model\.model is empty"),
        (lambda: settings(api_key_env="sk-abcdef0123456789abcdef"), "must be the name of an environment variable"),
        (lambda: settings(answer_prefix="apend"), 'model.answer_prefix="apend".*append'),
        (lambda: settings(omit=["max_tokens"]), "model.omit"),
        (lambda: settings(extra={"temperature": 1}), r"model\.extra\.temperature"),
        (lambda: settings(concurrency=0), r"model\.concurrency"),
        (lambda: settings(requests_per_minute=-1), r"model\.requests_per_minute"),
        (lambda: settings(max_dollars=1.0), r"needs model\.price\.input"),
        (lambda: Price(input=1.0), "both"),
        (lambda: FrameSettings(detail="high", send_as="video_url"), r"frames\.detail belongs to"),
        (lambda: FrameSettings(rule="uniform", fps=1.0), r"frames\.fps is not read by frames\.rule=uniform"),
        (lambda: FrameSettings(rule="fps", max_fps=1.0), r"frames\.max_fps is not read"),
        (lambda: FrameSettings(jpeg_quality=0), "jpeg_quality"),
        (lambda: FrameSettings(longest_side=0), "longest_side"),
        (lambda: settings(frames=FrameSettings(rule="unifrom")), 'Did you mean "uniform"'),
    ],
)
def test_a_setting_that_cannot_work_is_an_error(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
