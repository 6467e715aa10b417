"""The judge against a real HTTP server on this machine that can misbehave in every way it is asked to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import ConfigError, RunError
from evalkit.scoring.grade import Choice, Judged, ask_ahead
from evalkit.scoring.judge import Judge, JudgeError, JudgeSettings
from evalkit.scoring.judge_replies import ScoreCard, read_score_card, read_scores
from evalkit.types import Question
from tests.helpers import ROOT

KEY = "sk-very-secret-0123456789"


def completion(text: str | None) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


class Endpoint(ThreadingHTTPServer):
    """Answers each request by the next of `script` (status, body, headers), the last for ever; keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, bytes, dict[str, str]]] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.delay_s = 0.0
        self.drip = False
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gives up is part of these tests."""


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append({"path": self.path, **body})
            self.server.keys.append(self.headers.get("Authorization"))
            script = self.server.script
            status, reply, headers = script.pop(0) if len(script) > 1 else script[0]
        time.sleep(self.server.delay_s)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        if self.server.drip:
            for byte in reply:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.02)
        else:
            self.wfile.write(reply)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


Make = Callable[..., Judge]


@pytest.fixture
def make(endpoint: Endpoint, tmp_path: Path) -> Make:
    def judge(**settings: Any) -> Judge:
        waits: list[float] = []
        made = Judge(JudgeSettings(endpoint.url, "judge-7b", **settings), tmp_path / "cache", waits.append)
        made.waits = waits  # type: ignore[attr-defined]
        return made

    return judge


def chat(text: str = "Is it right?") -> list[dict[str, str]]:
    return [{"role": "system", "content": "Be strict."}, {"role": "user", "content": text}]


def test_request_and_cache(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(200, completion("yes ✓"), {})]
    judge = make(extra={"top_k": 20}, temperature=0.7)
    assert judge.ask(chat()) == "yes ✓"
    assert endpoint.requests == [
        {
            "path": "/v1/chat/completions",
            "model": "judge-7b",
            "messages": chat(),
            "temperature": 0.7,
            "top_p": 1.0,
            "max_tokens": 1024,
            "top_k": 20,
        }
    ]
    assert make(extra={"top_k": 20}, temperature=0.7).ask(chat()) == "yes ✓", "another process finds it"
    assert (judge.calls, len(endpoint.requests)) == (1, 1)
    judge.ask(chat("Another question?"))
    make(temperature=0.8, extra={"top_k": 20}).ask(chat())
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    "failure",
    [
        (429, b"slow down", {"Retry-After": "7"}),
        (500, b"<html>oops</html>", {}),
        (503, b"", {}),
        (200, b"\x00\xff garbage", {}),
        (200, b'{"choices": []}', {}),
        (200, b'{"choices": [{"message": {"content": [1, 2]}}]}', {}),
        (200, b"[" * 100_000, {}),
        (200, b"null", {}),
    ],
    ids=lambda failure: f"{failure[0]} {failure[1][:12]!r}",
)
def test_what_may_pass_is_tried_again(endpoint: Endpoint, make: Make, failure: tuple) -> None:
    endpoint.script = [failure, failure, (200, completion("4"), {})]
    judge = make()
    assert judge.ask(chat()) == "4"
    waits = judge.waits  # type: ignore[attr-defined]
    assert judge.calls == 3 and len(waits) == 2
    if failure[2]:
        assert waits == [7, 7]
    else:
        assert 0.5 <= waits[0] <= 1 and 1 <= waits[1] <= 2


def test_retry_after_may_be_a_date(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(429, b"", {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}), (200, completion("4"), {})]
    judge = make()
    assert judge.ask(chat()) == "4"
    assert judge.waits == [120]  # type: ignore[attr-defined]


def test_it_gives_up_and_keeps_nothing_false(endpoint: Endpoint, make: Make, tmp_path: Path) -> None:
    endpoint.script = [(500, b"oops", {})]
    with pytest.raises(JudgeError, match=r"did not answer in 3 attempts: HTTP 500: oops"):
        make(retries=2).ask(chat())
    assert len(endpoint.requests) == 3
    assert not list(tmp_path.rglob("*.json"))
    endpoint.script = [(200, completion("5"), {})]
    assert make().ask(chat()) == "5"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 301])
def test_what_will_not_pass_is_not_tried_again(endpoint: Endpoint, make: Make, status: int) -> None:
    endpoint.script = [(status, b"no such model", {"Location": "http://127.0.0.1:9/"})]
    with pytest.raises(JudgeError, match=f"HTTP {status}: no such model.*judge.base_url, judge.model"):
        make().ask(chat())
    assert len(endpoint.requests) == 1


def test_slow_and_dripping_servers_time_out(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(200, completion("4"), {})]
    endpoint.delay_s = 1.5
    with pytest.raises(JudgeError, match=r"no reply within 0\.2 s"):
        make(timeout_s=0.2, retries=0).ask(chat())
    endpoint.delay_s, endpoint.drip = 0, True
    with pytest.raises(JudgeError, match=r"did not end in time|no reply within"):
        make(timeout_s=0.3, retries=0).ask(chat())


def test_no_server(tmp_path: Path) -> None:
    judge = Judge(JudgeSettings("http://127.0.0.1:9/v1", "m", retries=1), tmp_path, sleep=lambda s: None)
    with pytest.raises(JudgeError, match=r"did not answer in 2 attempts: ConnectError"):
        judge.ask(chat())


def test_key_comes_from_the_named_variable_and_goes_nowhere_else(
    endpoint: Endpoint, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    with pytest.raises(JudgeError, match="set the environment variable JUDGE_KEY"):
        make(api_key_env="JUDGE_KEY").ask(chat())
    monkeypatch.setenv("JUDGE_KEY", KEY)
    endpoint.script = [(200, completion("4"), {})]
    judge = make(api_key_env="JUDGE_KEY")
    judge.ask(chat())
    assert endpoint.keys == [f"Bearer {KEY}"]
    for status in (401, 500):
        endpoint.script = [(status, f"Incorrect API key provided: {KEY}".encode(), {})]
        with pytest.raises(JudgeError, match="<api key>") as caught:
            make(api_key_env="JUDGE_KEY", retries=0).ask(chat(str(status)))
        assert KEY not in str(caught.value)
    assert KEY not in repr(judge) and KEY not in caplog.text
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY in path.read_text()]


def test_cap_on_calls_keeps_what_was_judged(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(200, completion("4"), {})]
    chats = [chat(f"question {i}") for i in range(10)]
    with pytest.raises(JudgeError, match=r"asked 4 times, which is judge\.max_calls"):
        make(max_calls=4, workers=1).ask_many(chats)
    judge = make()
    assert judge.count(chats) == (4, 6)
    assert judge.ask_many(chats) == ["4"] * 10
    assert (judge.calls, len(endpoint.requests)) == (6, 10)


def test_count_asks_nothing_and_counts_equal_requests_once(endpoint: Endpoint, make: Make) -> None:
    assert make().count([chat("a"), chat("a"), chat("b")]) == (0, 2)
    assert endpoint.requests == []


def test_many_are_asked_at_once_and_stay_in_order(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(200, completion("4"), {})]
    endpoint.delay_s = 0.2
    start = time.monotonic()
    judge = make(workers=8)
    judge.ask_many([chat(str(i)) for i in range(16)])
    assert time.monotonic() - start < 2.4  # one after another: 3.2 s
    for i in range(16):
        entry = json.loads(judge._path(judge._body(chat(str(i)))).read_text())
        assert entry["request"]["messages"] == chat(str(i))


def test_ctrl_c_does_not_wait_for_requests_under_way(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.script, endpoint.delay_s = [(200, completion("4"), {})], 30.0
    program = (
        "from pathlib import Path\nfrom evalkit.scoring.judge import Judge, JudgeSettings\n"
        f"judge = Judge(JudgeSettings({endpoint.url!r}, 'm'), Path({str(tmp_path)!r}))\n"
        "judge.ask_many([[{'role': 'user', 'content': str(i)}] for i in range(20)])\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not endpoint.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    asking.send_signal(signal.SIGINT)
    _, said = asking.communicate(timeout=10)
    assert "KeyboardInterrupt" in said and asking.returncode != 0


def test_damaged_cache_is_named(endpoint: Endpoint, make: Make) -> None:
    judge = make()
    path = judge._path(judge._body(chat()))
    path.parent.mkdir(parents=True)
    for damage in ('{"reply": ', '{"reply": 4}', "[]"):
        path.write_text(damage)
        with pytest.raises(RunError, match="is damaged: delete it"):
            judge.ask(chat())


def test_cache_that_cannot_be_written(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.script = [(200, completion("4"), {})]
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be kept"):
        Judge(JudgeSettings(endpoint.url, "m"), tmp_path / "file").ask(chat())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000", "model": "m"}, "is no URL"),
        ({"base_url": "http://user:pass@host/v1", "model": "m"}, "must not hold credentials"),
        ({"base_url": "http://host/v1?key=abc", "model": "m"}, "must not hold credentials"),
        ({"base_url": "http://host/v1", "model": ""}, "judge.model is empty"),
        ({"base_url": "http://host/v1", "model": "m", "max_calls": -1}, "must not be negative"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        JudgeSettings(**settings)
    assert "pass@" not in str(caught.value) and "abc" not in str(caught.value)


# Reading replies -----------------------------------------------------------------------------------------------------

SSC = ("score_accuracy", "score_relevance")


@pytest.mark.parametrize(
    "reply",
    [
        "{'score_accuracy': 3.5, 'score_relevance': 4, 'total_score': 7.5}",
        'Reasons...\n```json\n{"score_accuracy": 3.5, "score_relevance": 4.0, "total_score": 7.5}\n```',
        "The score_accuracy: see below, is good. {'score_accuracy': '3.5', 'score_relevance': 4}",
        "{'score_accuracy': 1, 'score_relevance': 1} I correct: {'score_accuracy': 3.5, 'score_relevance': 4} {thanks}",
        "{'score_accuracy': 3.5, 'score_relevance': 4, 'total_score': 3.5 + 4}",
        "score_accuracy: 3.5, score_relevance: 4",
        '"score_accuracy": 3.5, "score_relevance": 4}',
        "<think>{'score_accuracy': 1, 'score_relevance': 1}</think>{'score_accuracy': 3.5, 'score_relevance': 4}",
        "{'scores': {'score_accuracy': 3.5, 'score_relevance': 4, 'total': 7.5}, 'why': 'x}'}",
    ],
)
def test_read_scores(reply: str) -> None:
    assert read_scores(reply, SSC, 1, 5) == {"score_accuracy": 3.5, "score_relevance": 4}


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot judge this.",
        "{'score_accuracy': 3}",
        "{'score_accuracy': 'three', 'score_relevance': 4}",
        "{'score_accuracy': 30, 'score_relevance': 4}",
        "{'score_accuracy': nan, 'score_relevance': 4}",
        "{'score_accuracy': True, 'score_relevance': 4}",
        "{'score_accuracy': __import__('os').system('false'), 'score_relevance': 4}",
        "score_accuracy score_relevance",
    ],
)
def test_unreadable_scores(reply: str) -> None:
    assert read_scores(reply, SSC, 1, 5) is None


@pytest.mark.parametrize(
    ("reply", "card"),
    [
        (
            'SCORE_CARD: {"matched_steps":"3/6","final_answer_correct":1,"critique":"a, {b}","score":5}',
            ScoreCard(5, 3, 6, True),
        ),
        (
            "SCORE_CARD: {...}\nfinal: SCORE_CARD:\n{'score': '7', 'final_answer_correct': 0}",
            ScoreCard(7, None, None, False),
        ),
        ("<think>SCORE_CARD: {'score': 1}</think> SCORE_CARD: {'score': 10}", ScoreCard(10, None, None, None)),
        ("SCORE_CARD: {'score': 11}", None),
        ("{'score': 5}", None),
        ("SCORE_CARD: {'matched_steps': '3/6'", None),
    ],
)
def test_score_card(reply: str, card: ScoreCard | None) -> None:
    assert read_score_card(reply) == card


@given(
    st.one_of(st.text(), st.text(alphabet="{}[]()'\":,0123456789 score_accuracyrelevanceSCORE_CARD\\n", max_size=200))
)
def test_no_judge_reply_raises(reply: str) -> None:
    for prefix in ("", "SCORE_CARD: "):
        read_scores(prefix + reply, SSC)
        read_score_card(prefix + reply)


@pytest.mark.parametrize(
    "reply",
    ["{" * 1_000_000, "{}" * 500_000, "{'a':" * 200_000, "SCORE_CARD" * 100_000, "1 " * 500_000],
    ids=lambda r: r[:9],
)
def test_megabytes_of_judge_reply(reply: str) -> None:
    for read in (lambda r: read_scores(r, SSC), read_score_card):
        start = time.process_time()
        assert read(reply) is None
        assert time.process_time() - start < 1.5


# The grader ----------------------------------------------------------------------------------------------------------


def judged(judge: Judge | None) -> Judged:
    return Judged(
        messages=lambda question, reply: chat(f"{question.gold} | {reply}"),
        read=lambda reply: read_scores(reply, SSC, 1, 5),
        total=SSC,
        judge=judge,
    )


def test_grader(endpoint: Endpoint, make: Make) -> None:
    question = Question("1", "What happens?", gold="a dog barks")
    endpoint.script = [
        (200, completion("{'score_accuracy': 3, 'score_relevance': 5}"), {}),
        (200, completion("well"), {}),
    ]
    grader = judged(make())
    grade = grader.grade(question, "<think>hm</think>A dog.")
    assert endpoint.requests[0]["messages"][1]["content"] == "a dog barks | A dog."
    assert (grade.score, grade.valid, dict(grade.values)) == (8, True, {"score_accuracy": 3, "score_relevance": 5})
    assert grade.note == "dropped <think>"
    unread = grader.grade(question, "A cat.")
    assert (unread.score, unread.valid) == (0, False) and "cannot be read: 'well'" in unread.note
    assert judged(None).grade(question, "A dog.").score is None


def test_asked_ahead_an_answer_is_judged_once(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(200, completion('{"score": 4}'), {})]
    judge = make(workers=4)
    grader, answers = judged(judge), [(Question(str(i), f"Which {i}?", gold="x"), f"reply {i}") for i in range(6)]
    ask_ahead(grader, answers)
    assert len(endpoint.requests) == 6
    assert all(grader.grade(question, reply).graded for question, reply in answers)
    assert len(endpoint.requests) == 6


def test_what_cannot_be_asked_ahead_is_told_by_the_grade(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(401, b"no", {})]
    grader, question = judged(make()), Question("1", "Which?", gold="x")
    ask_ahead(grader, [(question, "this")])
    grade = grader.grade(question, "this")
    assert not grade.graded and "refuses: HTTP 401" in grade.note
    ask_ahead(judged(None), [(question, "this")])
    ask_ahead(Choice("lmms_eval"), [(question, "this")])
    assert len(endpoint.requests) == 1
