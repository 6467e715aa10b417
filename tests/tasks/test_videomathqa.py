"""VideoMathQA: the eight tasks of lmms-eval as split, protocol and subtitles; prompts byte by byte; four of four; and
chains of thought judged over HTTP by a server that answers as real judges do, well or badly."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import ConfigError, DataError, SampleError
from evalkit.scoring.judge import Judge, JudgeSettings
from evalkit.tasks._judge import JudgeConfig
from evalkit.tasks._mini.videomathqa import VIDEOS
from evalkit.tasks._videomathqa_judge import ChainOfThought, letter_messages, step_messages
from evalkit.tasks.videomathqa import VideoMathQA
from evalkit.types import FramePlan, Question
from evalkit.video.scenes import nearest_colour

from .answers import answer, at, complete, made, oracle, pixels_at, prompts, questions, record, write_parquet

ALL_FRAMES = FramePlan((0, 16, 40), (0.0, 4.0, 10.0), 4.0, 64, "uniform")
MCQ = ("mcq/test-00000-of-00001.parquet", "multi_binary/test-00000-of-00001.parquet")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videomathqa")
    VideoMathQA().make_miniature(folder)
    return folder


def mini(root: Path, **settings: Any) -> Any:
    return made(VideoMathQA(**settings), root)


def rows(root: Path, config: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return pq.read_table(root / config / "test-00000-of-00001.parquet").to_pylist()


# The data ------------------------------------------------------------------------------------------------------------


def test_the_miniature(root: Path, tmp_path: Path) -> None:
    mcq, mbin = questions(mini(root)), questions(mini(root, split="mbin"))
    assert len(mcq) == 9 and len(mbin) == 36
    assert {len(q.options) for _, q in mcq.values()} == {5} and {len(q.options) for _, q in mbin.values()} == {2}
    assert {q.unit for _, q in mbin.values()} == set(mcq)
    assert [item.video.path.suffix for item, _ in mcq.values()].count(".mkv") == 1
    assert all(item.video.path.is_file() for item, _ in mcq.values())
    assert {q.groups["length"][0] for _, q in mcq.values()} == {"short", "medium", "long"}
    for name, times, colours in (
        ("vm_002.mp4", (5, 30), ["orange", "blue"]),
        ("vm_003.mkv", (1, 3), ["gray", "yellow"]),
    ):
        assert [nearest_colour(p[:8]) for p in pixels_at(root / "videos" / name, *times)] == colours
    VideoMathQA().make_miniature(tmp_path)
    for file in (path for path in root.rglob("*") if path.is_file()):
        assert file.read_bytes() == (tmp_path / file.relative_to(root)).read_bytes()


def test_a_video_is_prefilled_once_for_all_its_questions(root: Path) -> None:
    assert [len(item.questions) for item in mini(root).items()] == [2, 2, 1, 2, 2]
    assert [len(item.questions) for item in mini(root, split="mbin").items()] == [8, 8, 4, 8, 8]
    assert len(VIDEOS) == 5


def test_json_lines_give_the_same_questions(root: Path, tmp_path: Path) -> None:
    for config in ("mcq", "multi_binary"):
        lines = "".join(json.dumps(row) + "\n" for row in rows(root, config))
        (tmp_path / f"{config}.jsonl").write_text(lines)
    (tmp_path / "videos").symlink_to(root / "videos")
    for split in ("mcq", "mbin"):
        ours = {id: q for id, (_, q) in questions(mini(root, split=split)).items()}
        theirs = questions(at(VideoMathQA(split=split), tmp_path))
        assert {id: q for id, (_, q) in theirs.items()} == ours
        assert all(item.video.path.is_file() for item, _ in theirs.values())


def test_counts_and_fours(root: Path, tmp_path: Path) -> None:
    task = complete(VideoMathQA(), root)
    with pytest.raises(DataError, match=r"9 questions below .*, a complete copy has 420"):
        list(task.items())
    short = [row for i, row in enumerate(rows(root, "multi_binary")) if i != 5]
    write_parquet(tmp_path / "multi_binary" / "test-00000-of-00001.parquet", short)
    (tmp_path / "videos").symlink_to(root / "videos")
    with pytest.raises(DataError, match=r"1 questions have not four rows; question_id 901 has 3"):
        mini(tmp_path, split="mbin").items()
    broken = mini(tmp_path, split="mbin", allow_missing=True)
    scores = broken.summarize(answer(broken, oracle))
    assert scores.headline.value == pytest.approx(100 * 8 / 9)
    assert len(scores.notes) == 2 and "do not have all of their 4 questions" in scores.notes[0]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("options", ["A. 1", "B. 2", "C. 3"], 'column "options": expected five or two options, found 3'),
        ("answer", "F", 'column "answer": expected one of A, B, C, D or E, found .F.'),
        ("length", "huge", 'column "length": expected one of short, medium, long, found .huge.'),
    ],
)
def test_mistakes_in_the_data(root: Path, tmp_path: Path, column: str, value: Any, message: str) -> None:
    bad = rows(root, "mcq")
    bad[2][column] = value
    write_parquet(tmp_path / "mcq" / "test-00000-of-00001.parquet", bad)
    with pytest.raises(DataError, match=f"row 3, {message}"):
        list(VideoMathQA().load(tmp_path))
    with pytest.raises(DataError, match=r"holds no VideoMathQA \(mbin\): expected videomathqa_mbin_test.parquet"):
        list(VideoMathQA(split="mbin").load(tmp_path))


# The prompts ---------------------------------------------------------------------------------------------------------

SELECT = "Select the best answer to the following multiple-choice question based on the video"
FIVE = "A. 5\nB. 6\nC. 1\nD. 23\nE. 4\n"


def test_prompts_without_subtitles(root: Path) -> None:
    asked = "What is the sum of the two numbers?\n"
    assert prompts(mini(root))["900"] == (
        f"{SELECT}. Respond with the letter (A, B, C, D or E) of the correct option.\n{asked}{FIVE}"
        "\nAnswer with the option's letter (A, B, C, D or E) from the given choices directly."
    )
    assert prompts(mini(root, protocol="cot"))["900"] == (
        f"{SELECT}. Respond with the letter (A, B, C, D or E) of the correct option.\n{asked}{FIVE}"
        "First please perform reasoning, and think step by step to provide best answer to the following question with "
        "the option's letter (A, B, C, D or E) from the given choices."
    )
    assert prompts(mini(root, split="mbin"))["900_0"] == (
        f"{SELECT}. Respond with the letter (A or B) of the correct option.\n{asked}A. 6\nB. 5\n"
        "\nAnswer with the option's letter (A or B) from the given choices directly."
    )
    assert prompts(mini(root, split="mbin", protocol="cot"))["900_1"].endswith(
        "A. 5\nB. 1\nFirst please perform reasoning, and think step by step to provide best answer to the following "
        "question with the option's letter (A or B) from the given choices."
    )


def test_prompts_with_the_subtitles_of_the_frames_that_are_read(root: Path) -> None:
    head = f"{SELECT} and the subtitles. Respond with the letter (A, B, C, D or E) of the correct option.\n"
    shown = prompts(mini(root, subtitles=True), ALL_FRAMES)
    assert shown["900"].startswith(
        f"This video's subtitles are listed below: \nThis is the first number.\nAnd this is the second.\n{head}"
    )
    at_once = FramePlan((0,), (0.0,), 4.0, 64, "uniform")
    assert prompts(mini(root, subtitles=True), at_once)["900"].startswith(
        f"This video's subtitles are listed below: \nThis is the first number.\n{head}"
    )
    assert shown["904"].startswith(f"This video's subtitles are listed below: \nNo subtitles available\n{head}")


def test_each_metric_says_what_was_shown(root: Path) -> None:
    names = {
        (split, protocol, subtitles): [m.name for m in mini(root, **settings).rules.metrics]
        for split in ("mcq", "mbin")
        for protocol in ("official", "cot")
        for subtitles in (False, True)
        for settings in [{"split": split, "protocol": protocol, "subtitles": subtitles}]
    }
    assert len(names) == 8  # the eight tasks of lmms-eval
    assert names["mcq", "official", False] == ["accuracy (no subtitles)"]
    assert names["mbin", "cot", True] == ["accuracy (subtitles)", "single questions (subtitles)"]
    assert names["mcq", "cot", True][1:] == ["steps (subtitles)", "unreadable score cards"]
    rules = mini(root).rules, mini(root, protocol="cot").rules
    assert [r.decoding.max_new_tokens for r in rules] == [16, 8096]


def test_damaged_and_missing_subtitles(root: Path, tmp_path: Path) -> None:
    for name in ("mcq", "videos"):
        (tmp_path / name).symlink_to(root / name)
    with pytest.raises(DataError, match=r"no video has a subtitle file, .*vm_001.srt"):
        list(mini(tmp_path, subtitles=True).items())
    (tmp_path / "subtitles").mkdir()
    (tmp_path / "subtitles" / "vm_001.srt").write_text("1\nsoon --> later\nHello\n")
    task = mini(tmp_path, subtitles=True)
    item = next(iter(task.items()))
    with pytest.raises(SampleError, match="damaged"):
        task.context(item, None)  # type: ignore[arg-type]


# Scores --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["official", "lmms_eval", "cot_tolerant", "lmms_eval_cot"])
def test_oracle_garbage_and_constant(root: Path, protocol: str) -> None:
    for split in ("mcq", "mbin"):
        task = mini(root, split=split, protocol=protocol)
        assert task.summarize(answer(task, oracle)).headline.value == 100
        garbage = task.summarize(answer(task, lambda q: "no idea"))
        assert garbage.headline.value == 0 and garbage.n_invalid == (9 if split == "mcq" else 36)
    constant = mini(root, protocol=protocol)
    golds = [q.gold for _, q in questions(constant).values()]
    assert constant.summarize(answer(constant, lambda q: "A")).headline.value == pytest.approx(
        100 * golds.count("A") / 9
    )


def test_always_one_letter_scores_nothing_in_four_of_four(root: Path) -> None:
    task = mini(root, split="mbin")
    scores = task.summarize(answer(task, lambda q: "A"))
    assert scores.headline.value == 0 and scores.metric("single questions (no subtitles)").value == 50
    once_wrong = task.summarize(answer(task, lambda q: "C" if q.id == "900_3" else str(q.gold)))
    assert once_wrong.headline.value == pytest.approx(100 * 8 / 9) and once_wrong.headline.n == 9
    assert once_wrong.metric("accuracy (no subtitles)", "length", "short").value == pytest.approx(200 / 3)


def test_a_chain_of_thought_is_read_by_its_end_or_by_its_first_capital(root: Path) -> None:
    """The last is what lmms-eval prints before its post-processing: the A of "Adding"."""
    reply = "Adding 2 and 3 gives 5. Therefore the final answer is: **B**"
    question = Question("q", "2 + 3?", ("A. 6", "B. 5", "C. 1", "D. 2", "E. 3"), "B", meta={"steps": "[]"})
    assert VideoMathQA(protocol="cot_tolerant").grade(question, reply).score == 1
    assert VideoMathQA(protocol="lmms_eval_cot").grade(question, reply).extracted == "A"


# The judge -----------------------------------------------------------------------------------------------------------

CARD = 'Well done.\nSCORE_CARD: {"matched_steps": "2/2", "final_answer_correct": 1, "critique": "good", "score": 10}'
HALF = 'SCORE_CARD: {"matched_steps": "1/2", "final_answer_correct": 0, "critique": "a {brace}", "score": 5}'


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[dict[str, Any]], dict[str, Callable[[str], str]]]]:
    """An OpenAI-compatible server: `says["letter"]` and `says["steps"]` answer its two kinds of question."""
    asked: list[dict[str, Any]] = []
    says: dict[str, Callable[[str], str]] = {"letter": lambda text: "A", "steps": lambda text: CARD}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            text = body["messages"][-1]["content"]
            reply = says["steps" if "GROUND TRUTH STEPS" in text else "letter"](text)
            content = json.dumps({"choices": [{"message": {"role": "assistant", "content": reply}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked, says
    server.shutdown()
    thread.join()
    server.server_close()


def judged(url: str, cache: Path, steps: bool = True, letters: str = "ABCDE") -> ChainOfThought:
    return ChainOfThought(letters, steps, Judge(JudgeSettings(url, "qwen"), cache))


def final_letter(text: str) -> str:
    """What a competent judge answers: the letter behind "answer is"."""
    return text.split("answer is ")[-1][:1]


def test_the_judge_reads_the_letter_and_scores_the_steps(
    root: Path, tmp_path: Path, endpoint: Any, monkeypatch: Any
) -> None:
    url, asked, says = endpoint
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    says["letter"] = final_letter
    says["steps"] = lambda text: (
        "no card at all" if "answer is E" in text else (HALF if "answer is A" in text else CARD)
    )
    task = mini(root, protocol="cot", judge=JudgeConfig(url, "qwen"))
    records = answer(task, lambda q: f"Let me think. The answer is {q.gold}.")
    scores = task.summarize(records)
    golds = [str(q.gold) for _, q in questions(task).values()]
    assert scores.headline.value == 100
    expected = [{"E": 0, "A": 5}.get(gold, 10) for gold in golds]
    steps = scores.metric("steps (no subtitles)")
    assert (
        steps.value == pytest.approx(sum(expected) / 9) and steps.n == 9
    )  # the ninth as well, beyond a batch of eight
    assert scores.metric("unreadable score cards").value == pytest.approx(100 * golds.count("E") / 9)
    assert len(asked) == 18 and {body["model"] for body in asked} == {"qwen"}
    assert any("score card cannot be read" in r.note for r in records)
    answer(task, lambda q: f"Let me think. The answer is {q.gold}.")
    assert len(asked) == 18  # answers are cached


def test_what_the_judge_cannot_tell_is_a_wrong_letter_drawn_by_question(tmp_path: Path, endpoint: Any) -> None:
    url, _, says = endpoint
    says["letter"] = lambda text: "None"
    grader = judged(url, tmp_path, steps=False)
    drawn = {}
    for number in range(40):
        question = Question(f"q{number}", "?", tuple("12345"), "ABCDE"[number % 5])
        grade = grader.grade(question, "hm")
        assert grade.score == 0 and not grade.valid and grade.rule == "judge: random wrong letter"
        assert grade.extracted != question.gold
        drawn[question.id] = grade.extracted
    assert len(set(drawn.values())) == 5
    again = judged(url, tmp_path, steps=False).grade(Question("q7", "?", tuple("12345"), "C"), "hm")
    assert again.extracted == drawn["q7"]
    pair = judged(url, tmp_path, steps=False, letters="AB").grade(Question("q", "?", ("A. 1", "B. 2"), "B"), "hm")
    assert pair.extracted == "A" and pair.score == 0


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("b", "B"),
        (" B\n", "B"),
        ("<think>is it A?</think>\n\nB", "B"),
        ("B.", None),
        ("The answer is B", None),
        ("", None),
    ],
)
def test_replies_of_the_judge(tmp_path: Path, endpoint: Any, said: str, letter: str | None) -> None:
    url, _, says = endpoint
    says["letter"] = lambda text: said
    grade = judged(url, tmp_path, steps=False).grade(Question("q", "?", tuple("12345"), "B"), "so it is B")
    assert (grade.score, grade.valid) == (float(letter == "B"), letter is not None)


class Says(Judge):
    """A judge that says what it is told to, asking nobody."""

    def __init__(self, text: str) -> None:
        self.text = text

    def ask(self, messages: Any) -> str:
        return self.text


@given(st.text() | st.text().map(lambda text: f"SCORE_CARD: {text}") | st.sampled_from(["A", CARD, HALF, CARD + "}"]))
def test_nothing_that_a_judge_says_raises(said: str) -> None:
    grade = ChainOfThought("ABCDE", True, Says(said)).grade(
        Question("q", "?", tuple("12345"), "B", meta={"steps": "[]"}), "reply"
    )
    assert grade.score in (0, 1) and 0 <= grade.values["steps"] <= 10 and grade.values["unreadable"] in (0, 1)
    assert grade.extracted in tuple("ABCDE") and (grade.valid or grade.score == 0)


def test_without_a_judge_the_answer_waits(root: Path) -> None:
    task = mini(root, protocol="cot")
    item, question = questions(task)["900"]
    grade = task.grade(question, "The answer is A")
    assert grade.score is None and not grade.graded and grade.note == "not judged: no judge is set"
    assert record(task, item, question, "The answer is A").score is None


def test_a_judge_that_is_away_costs_no_answer(tmp_path: Path) -> None:
    settings = JudgeSettings("http://127.0.0.1:9/v1", "qwen", retries=0)
    grade = ChainOfThought("ABCDE", True, Judge(settings, tmp_path)).grade(
        Question("q", "?", tuple("12345"), "B", meta={"steps": "[]"}), "B"
    )
    assert grade.score is None and not grade.graded and grade.note.startswith("not judged: The judge qwen at")


def test_the_judge_of_a_task_is_checked_early() -> None:
    with pytest.raises(ConfigError, match=r"judge.model is set without judge.base_url"):
        VideoMathQA(judge=JudgeConfig(model="qwen"))


def test_the_texts_for_the_judge() -> None:
    (message,) = letter_messages(["A. 1", "B. 2"], "so B", "AB")
    assert message["content"] == (
        "Given the original binary options and a model-generated answer containing reasoning and a final answer, "
        "identify the option that best matches the final answer and return only the corresponding letter (A or B).:"
        "\n\nText:\nThe options are: ['A. 1', 'B. 2']\n\n The model response is: so B\n\nOnly return the letter A, B, "
        'C, D, or E. If none is found, return "None".'
    )
    (message,) = letter_messages(list("12345"), "x", "ABCDE")
    assert message["content"].startswith("Given the original multiple-choice options and a model-generated")
    assert "corresponding letter (A, B, C, D, or E).:\n\nText:" in message["content"]
    question = Question("q", "2 + 3?", ("A. 6", "B. 5"), "B", meta={"steps": '["2", "3"]'})
    (message,) = step_messages(question, "five")
    text = message["content"]
    assert text.startswith("\nINSTRUCTIONS: \nYou are a intelligent assistant for grading math question solutions.")
    assert text.endswith(
        "before assigning a score.\n\n\nQUESTION: 2 + 3?\n\nOPTIONS: ['A. 6' 'B. 5']\n\nGROUND TRUTH STEPS:\n"
        '"[\\"2\\", \\"3\\"]"\n\nCORRECT FINAL ANSWER:\nB\n\nPREDICTION:\nfive\n\nNow evaluate this prediction and '
        'return the response in the specified format: SCORE_CARD: {"matched_steps": "X/N", "final_answer_correct": '
        '<0 or 1>, "critique": "<2–3 sentence summary>", "score": <0–10>}\n\n'
    )
    rubric = text.partition("INSTRUCTIONS: ")[2].partition("\n\nQUESTION: ")[0]
    assert "computations. \n- Score = (matching steps / N) × 10, rounded to nearest whole number. \n" in rubric
    assert hashlib.sha256(rubric.encode()).hexdigest()[:16] == "9f97741d55507220"
