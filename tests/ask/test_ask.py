"""`evalkit ask` on a real video, with a model in this process and with one behind an HTTP server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit import CONFIGS
from evalkit.ask.command import ask
from evalkit.ask.costs import prefill_line, reply_line
from evalkit.cli.tools import Arguments, _arguments
from evalkit.errors import EvalkitError
from evalkit.types import FramePlan, PrefillCost, Reply
from evalkit.video.scenes import Scene, film
from evalkit.video.write import write_video
from tests.clients.endpoint import Endpoint, completion, serving
from tests.helpers import CONF, run_command


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ask") / "clip.mp4"
    write_video(path, film([Scene(0, 2.0, "white")], fps=8, size=(48, 64)), fps=8)
    return path


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        yield server


def arguments(*words: str) -> Arguments:
    made = _arguments(words, ())
    return Arguments(made.names, made.overrides, [CONFIGS, CONF])


def openai(server: Endpoint) -> list[str]:
    return ["model=openai", f"model.base_url={server.url}", "model.model=m", "model.frames.max=2", "model.retries=0"]


def test_the_command_from_the_shell(clip: Path) -> None:
    done = run_command(str(clip), "How bright?", "model=scripted", "model.reply=brightness", module="evalkit.ask")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 200, "a white video, and nothing else on standard output"
    assert "video: 4 frames (uniform)" in done.stderr and "2 prompt tokens, 1 new" in done.stderr


def test_several_questions_and_what_they_cost(
    clip: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 10}
    endpoint.reply = lambda body: completion(f"re: {body['messages'][-1]['content'][-1]['text']}", usage=usage)
    words = [*openai(endpoint), "model.price.input=2.5", "model.price.output=10", "system=Be brief."]
    assert ask(arguments(str(clip), "What?", "Is a=b, or a = c?", *words)) == 0
    out, err = capsys.readouterr()
    assert out == "\nWhat?\nre: What?\n\nIs a=b, or a = c?\nre: Is a=b, or a = c?\n"
    assert err.count("1,000 prompt tokens, 10 new") == 2 and err.count("$0.0026") == 2
    assert "video: 2 frames (uniform)" in err
    assert {request["messages"][0]["content"] for request in endpoint.requests} == {"Be brief."}
    assert {request["max_tokens"] for request in endpoint.requests} == {256}


def test_a_question_that_fails_is_said_and_the_others_are_answered(
    clip: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.script = [(500, b"oops", {}), (200, completion("yes"), {})]
    words = [*openai(endpoint), "model.concurrency=1", "decoding.max_new_tokens=7"]
    assert ask(arguments(str(clip), "One?", "Two?", *words)) == 1
    out, err = capsys.readouterr()
    assert out == "\nOne?\n\nTwo?\nyes\n"
    assert "error: The model m" in err and "HTTP 500: oops" in err
    assert endpoint.requests[1]["max_tokens"] == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clip.mp4", "model=scripted"], "name a video and at least one question"),
        (["clip.mp4", "What?"], "no model is named"),
        (["nowhere.mp4", "What?", "model=scripted"], r"nowhere\.mp4 does not exist"),
        (["nowhere.mp4", "What?", "model=scriptd"], 'Did you mean "scripted"'),
        (["nowhere.mp4", "What?", "model=scripted", "model.repl=A"], 'no setting "model.repl"'),
        (["nowhere.mp4", "What?", "model=scripted", "task=mlvu"], 'no setting "task"'),
        (["nowhere.mp4", "What?", "model=scripted", "decoding.max_new_tokens=0"], "give at least 1"),
        (["nowhere.mp4", "What?", "model=scripted", "model.reply=A,B"], "names several values"),
        (["nowhere.mp4", "What?", "model=scripted", "fps=no"], "fps=no: give a positive number"),
    ],
)
def test_a_mistake_is_one_message(words: list[str], message: str) -> None:
    with pytest.raises(EvalkitError, match=message):
        ask(arguments(*words))


def test_costs_that_were_not_measured_are_left_out() -> None:
    plan = FramePlan((0, 1), (0.0, 1.0), 1.0, 2, "uniform")
    assert prefill_line(None, plan) == "video: 2 frames (uniform)"
    cost = PrefillCost(visual_tokens=1200, kv_bytes=2**20, video_decode_s=0.5, prefill_s=2.0)
    assert prefill_line(cost, plan) == (
        "video: 2 frames (uniform), 1,200 visual tokens, KV cache 1.0 MiB, video decoding 0.50 s, prefill 2.00 s"
    )
    assert reply_line(Reply("x")) == "cost not measured"
    assert reply_line(Reply("x", new_tokens=4, question_s=0.5, generate_s=1.0, finish="length")) == (
        "4 new, 1.50 s, cut at decoding.max_new_tokens"
    )
