"""The judge against a real HTTP server on this machine: cache, limits, replies that cannot be read; and its graders."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.clients.endpoint import CallLimitReached, EndpointError, EndpointRefused
from evalkit.errors import ConfigError, RunError
from evalkit.scoring.grade import Judged, grade_reply
from evalkit.scoring.judge import Judge, JudgeSettings
from evalkit.scoring.judge_replies import ScoreCard, read_score_card, read_scores
from evalkit.scoring.reasoning import strip_reasoning
from evalkit.tasks._judge import JudgeConfig
from evalkit.types import Question
from tests.clients.endpoint import Endpoint, completion, serving
from tests.helpers import ROOT, run_command

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        yield server


Make = Callable[..., Judge]


@pytest.fixture
def make(endpoint: Endpoint, tmp_path: Path) -> Make:
    def judge(**settings: Any) -> Judge:
        return Judge(JudgeSettings(endpoint.url, "judge-7b", **settings), tmp_path / "cache", lambda seconds: None)

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


def test_a_failure_keeps_nothing_false(endpoint: Endpoint, make: Make, tmp_path: Path) -> None:
    endpoint.script = [(500, b"oops", {})]
    with pytest.raises(EndpointError, match=r"The judge judge-7b at .* did not answer in 3 attempts: HTTP 500: oops"):
        make(retries=2).ask(chat())
    assert len(endpoint.requests) == 3
    assert not list(tmp_path.rglob("*.json"))
    endpoint.script = [(200, completion("5"), {})]
    assert make().ask(chat()) == "5"


def test_no_file_holds_the_key(endpoint: Endpoint, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    endpoint.script = [(200, completion(f"4, by {KEY}"), {})]
    judge = make(api_key_env="JUDGE_KEY")
    assert judge.ask(chat()) == "4, by <api key>"
    assert endpoint.keys == [f"Bearer {KEY}"] and KEY not in repr(judge)
    files = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert len(files) == 1 and KEY not in files[0]


def test_a_key_in_place_of_its_variable_is_refused_and_written_nowhere(tmp_path: Path) -> None:
    named = [
        "task=mlvu",
        "task.split=dev_generation",
        "model=videoxl2_mini",
        "source=mini",
        f"results={tmp_path / 'r'}",
    ]
    judge = ["task.judge.base_url=http://127.0.0.1:9/v1", "task.judge.model=j", f"task.judge.api_key_env={KEY}"]
    done = run_command(*named, *judge, env={"EVALKIT_CACHE": str(tmp_path / "cache")})
    assert done.returncode == 1 and "judge.api_key_env takes the name of an environment variable" in done.stderr
    assert KEY not in done.stderr + done.stdout
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY in path.read_text(errors="replace")]


def ask_all(judge: Judge, chats: list[list[dict[str, str]]], threads: int = 8) -> list[str]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(judge.ask, chats))


def test_limit_of_calls_keeps_what_was_judged(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(200, completion("4"), {})]
    chats = [chat(f"question {i}") for i in range(10)]
    with pytest.raises(CallLimitReached, match=r"asked 4 times, which is judge\.max_calls"):
        ask_all(make(max_calls=4), chats)
    judge = make()
    assert judge.count(chats) == (4, 6)
    assert ask_all(judge, chats) == ["4"] * 10
    assert (judge.calls, len(endpoint.requests)) == (6, 10)


def test_equal_requests_of_several_threads_are_sent_once(endpoint: Endpoint, make: Make) -> None:
    endpoint.delay_s = 0.1
    judge = make()
    assert ask_all(judge, [chat(str(i % 2)) for i in range(16)]) == ["yes"] * 16
    assert len(endpoint.requests) == 2


def test_count_asks_nothing_and_counts_equal_requests_once(endpoint: Endpoint, make: Make) -> None:
    assert make().count([chat("a"), chat("a"), chat("b")]) == (0, 2)
    assert endpoint.requests == []


def test_ctrl_c_does_not_wait_for_requests_under_way(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.script, endpoint.delay_s = [(200, completion("4"), {})], 30.0
    program = (
        "from pathlib import Path\nfrom multiprocessing.pool import ThreadPool\n"
        "from evalkit.scoring.judge import Judge, JudgeSettings\n"
        f"judge = Judge(JudgeSettings({endpoint.url!r}, 'm'), Path({str(tmp_path)!r}))\n"
        "with ThreadPool(8) as pool:\n"
        "    pool.map(judge.ask, [[{'role': 'user', 'content': str(i)}] for i in range(20)])\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not endpoint.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    asking.send_signal(signal.SIGINT)
    _, said = asking.communicate(timeout=10)
    assert "KeyboardInterrupt" in said and asking.returncode != 0


@pytest.mark.parametrize("damage", [b'{"reply": ', b'{"reply": 4}', b"[]", b"", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_cache_entry_is_dropped(endpoint: Endpoint, make: Make, damage: bytes) -> None:
    judge = make()
    path = judge._path(judge._body(chat()))
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    assert judge.count([chat()]) == (0, 1)
    path.write_bytes(damage)
    assert judge.ask(chat()) == "yes"
    assert judge.count([chat()]) == (1, 0)


def test_cache_that_cannot_be_written(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.script = [(200, completion("4"), {})]
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be kept"):
        Judge(JudgeSettings(endpoint.url, "m"), tmp_path / "file").ask(chat())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000", "model": "m"}, r"judge\.base_url.* is not a URL"),
        ({"base_url": "http://host/v1", "model": ""}, r"judge\.model is empty"),
        ({"model": "m"}, r"judge\.model is set without judge\.base_url"),
        ({"workers": 0}, r"judge\.workers=0"),
        ({"api_key_env": KEY}, r"judge\.api_key_env must be the name"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        JudgeSettings(**settings)
    assert KEY not in str(caught.value)


def test_a_task_has_one_judge_with_one_limit() -> None:
    settings = JudgeConfig("http://127.0.0.1:9/v1", "m")
    assert settings.judge() is settings.judge() is not None
    assert JudgeConfig("http://127.0.0.1:9/v1", "m").judge() is not settings.judge(), "another run counts anew"
    there = copy.copy(settings)
    assert there == settings and there.judge() is not settings.judge()
    assert JudgeConfig().judge() is None


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

READABLE = "{'score_accuracy': 3, 'score_relevance': 5}"
QUESTION = Question("1", "What happens?", gold="a dog barks")


def judged(judge: Judge | None, **more: Any) -> Judged:
    return Judged(
        messages=lambda question, reply: chat(f"{question.gold} | {reply}"),
        read=lambda reply: read_scores(reply, SSC, 1, 5),
        total=SSC,
        judge=judge,
        **more,
    )


def test_grader(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(200, completion(READABLE), {})]
    grade = grade_reply(judged(make()), strip_reasoning, QUESTION, "<think>hm</think>A dog.")
    assert endpoint.requests[0]["messages"][1]["content"] == "a dog barks | A dog."
    assert (grade.score, grade.valid, dict(grade.values)) == (8, True, {"score_accuracy": 3, "score_relevance": 5})
    assert grade.note == "dropped <think>"
    assert judged(None).grade(QUESTION, "A dog.").score is None


UNREADABLE = [
    None,
    "",
    "well",
    "{'score_accuracy': nan, 'score_relevance': 4}",
    "{'score_accuracy': 7, 'score_relevance': 4}",
]


@pytest.mark.parametrize("reply", UNREADABLE)
def test_a_reply_that_cannot_be_read_is_asked_for_once_more(endpoint: Endpoint, make: Make, reply: str | None) -> None:
    endpoint.script = [(200, completion(reply), {}), (200, completion(READABLE), {})]
    grader = judged(make())
    assert grader.grade(QUESTION, "A cat.").score == 8
    assert judged(make()).grade(QUESTION, "A cat.").score == 8
    assert len(endpoint.requests) == 2, "the readable reply is the one that is cached"


@pytest.mark.parametrize("reply", UNREADABLE)
def test_after_the_second_the_question_stays_ungraded(endpoint: Endpoint, make: Make, reply: str | None) -> None:
    endpoint.script = [(200, completion("first words"), {}), (200, completion(reply), {})]
    grader = judged(make())
    for _ in range(2):
        grade = grader.grade(QUESTION, "A cat.")
        assert (grade.score, grade.graded, grade.valid, dict(grade.values)) == (None, False, False, {})
        assert grade.note == f"not judged: the judge's reply cannot be read: {reply or ''!r}"
    assert len(endpoint.requests) == 2
    endpoint.script = [(200, completion(READABLE), {})]
    assert judged(make()).grade(QUESTION, "A cat.").score == 8, "a later run asks again"


def test_where_the_published_scorer_says_0_it_is_0(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(200, completion("no scores"), {})]
    grader = judged(make(), zero=lambda text: text == "no scores")
    grade = grader.grade(QUESTION, "A cat.")
    assert (grade.score, grade.graded, grade.valid) == (0, True, False) and "'no scores'" in grade.note
    assert dict(grade.values) == {"score_accuracy": 0, "score_relevance": 0}
    assert len(endpoint.requests) == 1


def test_many_threads_grade_at_once(endpoint: Endpoint, make: Make) -> None:
    endpoint.script, endpoint.delay_s = [(200, completion(READABLE), {})], 0.05
    grader = judged(make())
    with ThreadPoolExecutor(6) as pool:
        grades = list(pool.map(lambda i: grader.grade(QUESTION, f"reply {i}"), range(24)))
    assert [grade.score for grade in grades] == [8] * 24
    assert endpoint.most_at_once >= 3 and len(endpoint.requests) == 24


def test_a_reply_cut_inside_a_character_is_judged(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(200, completion(READABLE), {})]
    assert judged(make()).grade(QUESTION, "A dog \ud83d").score == 8
    assert endpoint.requests[0]["messages"][1]["content"] == "a dog barks | A dog ?"


def test_a_wrong_key_is_reported_once_and_noted_in_every_grade(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(401, b"no", {})]
    grader = judged(make())
    with ThreadPoolExecutor(8) as pool:
        grades = list(pool.map(lambda i: grader.grade(QUESTION, f"this {i}"), range(40)))
    assert not any(grade.graded for grade in grades)
    assert all("refuses: HTTP 401" in grade.note for grade in grades)
    assert len(endpoint.requests) <= 8


def test_a_refusal_raises_its_own_error(endpoint: Endpoint, make: Make) -> None:
    endpoint.script = [(403, b"no", {})]
    with pytest.raises(EndpointRefused, match=r"Check judge\.base_url, judge\.model and judge\.api_key_env"):
        make().ask(chat())
