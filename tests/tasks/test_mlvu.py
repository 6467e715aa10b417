"""MLVU: macro and micro, six options, dirty rows, both layouts of both splits, prompts, and generation by a judge."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from evalkit import CONFIGS
from evalkit.cli.tools import Arguments
from evalkit.config import instantiate
from evalkit.errors import ConfigError, DataError
from evalkit.import_log.command import import_log
from evalkit.rescore import rescore
from evalkit.runs import read_records
from evalkit.tasks._judge import JudgeConfig
from evalkit.tasks._mini.mlvu import DEV_VIDEOS
from evalkit.tasks.mlvu import MLVU
from evalkit.types import Question, Video, VideoQuestions
from evalkit.video.scenes import nearest_colour

from .answers import (
    PLAN,
    answer,
    at,
    complete,
    golden_prompts,
    made,
    oracle,
    pixels_at,
    prompts,
    questions,
    record,
    write_parquet,
)

MINE = [CONFIGS]
DEV, TEST = ("official", "lmms_eval", "video_xl_2", "videochat_flash"), ("official", "lmms_eval", "video_xl_2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlvu")
    MLVU().make_miniature(folder)
    return folder


def mini(root: Path, **settings: Any) -> Any:
    return made(MLVU(**settings), root)


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def hub_rows(root: Path, split: str) -> list[dict[str, Any]]:
    """The rows of lmms-eval's copy: options inside the question, a letter as the answer."""
    pattern = "json/[1-7]_*.json" if split == "dev" else "test-ground-truth/test_mcq_gt.json"
    files = sorted(root.glob(pattern))
    rows = []
    for row in (row for file in files for row in read(file)):
        if row["answer"] not in row["candidates"]:
            continue  # that copy left such rows out
        lines = "".join(f"\n({letter}) {c}" for letter, c in zip("ABCDEF", row["candidates"], strict=False))
        rows.append(
            {
                "video_name": row["video"],
                "question": row["question"] + lines,
                "answer": "ABCDEF"[row["candidates"].index(row["answer"])],
                "task_type": "needle" if row["question_type"] == "findNeedle" else row["question_type"],
            }
        )
    return rows


HUB_FOLDERS = {"dev": "mlvu", "test": "mlvu_test"}


def hub_copy(root: Path, folder: Path, split: str = "dev") -> Path:
    write_parquet(folder / HUB_FOLDERS[split] / "test-00000-of-00001.parquet", hub_rows(root, split))
    for path in [*root.glob("video/*/*.mp4"), *root.glob("MLVU_Test/video/*.mp4")]:
        if not (folder / path.name).exists():
            (folder / path.name).symlink_to(path)
    return folder


# The miniature -------------------------------------------------------------------------------------------------------


def test_the_miniature_has_the_real_traps(root: Path) -> None:
    sizes = {path.stem: len(read(path)) for path in (root / "json").iterdir()}
    assert len(sizes) == 9
    assert len(set(sizes.values())) > 2
    items = list(mini(root).items())
    assert sum(item.cluster == "movie101_1.mp4" for item in items) == 2  # one film, asked about in two tasks
    assert {q.gold for item in items for q in item.questions} == {"A", "B", "C", "D", "LECTURE"}
    assert sum(len(set(q.options)) < 4 for item in items for q in item.questions) == 1
    assert {q.gold for _, q in questions(mini(root, split="test")).values()} == set("ABCDEF")
    assert {len(q.options) for _, q in questions(mini(root, split="test")).values()} == {6}


def test_the_same_miniature_twice(root: Path, tmp_path: Path) -> None:
    MLVU().make_miniature(tmp_path)
    files = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()]
    assert len(files) == 9 + 12 + 4 + 4
    for file in files:
        assert (tmp_path / file).read_bytes() == (root / file).read_bytes(), file


def test_its_questions_can_be_answered_by_looking(root: Path) -> None:
    """Colours named in an answer are on the screen when the timeline says so."""
    for name, colour in (("2_needle/needle_1.mp4", "red"), ("5_order/order_1.mp4", "green")):
        scene = next(s for s in DEV_VIDEOS[name] if s.colour == colour)
        (pixels,) = pixels_at(root / "video" / name, (scene.start_s + scene.end_s) / 2)
        assert nearest_colour(pixels[:10]) == colour
    flashes = [nearest_colour(p[:10]) for p in pixels_at(root / "video/4_count/count_1.mp4", *range(20))]
    runs = sum(now == "yellow" != before for before, now in zip(["", *flashes], flashes, strict=False))
    assert str(runs) == read(root / "json" / "4_count.json")[0]["answer"]


# Prompts -------------------------------------------------------------------------------------------------------------

SYSTEM = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, select the best option "
    "that accurately addresses the question."
)


def test_dev_prompts(root: Path) -> None:
    asked = "Which word ends the film?"
    lines = "(A) HOME\n(B) STOP\n(C) END\n(D) SHOP"
    expected = {
        "official": f"Question: {asked}\nOptions:\n{lines}\nOnly give the best option.",
        "lmms_eval": f"{asked}\n{lines}\nOnly give the best option.\nBest option: (",
        "video_xl_2": f"\n{asked}\n{lines}\nOnly give the best option.\n\nBest option: (",
        "videochat_flash": f"Question:{asked}\nOption:\n{lines}\n"
        "Answer with the option's letter from the given choices directly.",
    }
    assert {protocol: prompts(mini(root, protocol=protocol))["1_plotQA-3"] for protocol in DEV} == expected
    prefixes = {"official": (SYSTEM, "Best Option: (")}
    for protocol in DEV:
        task = mini(root, protocol=protocol)
        item, question = questions(task)["1_plotQA-3"]
        prefix = task.prompt(item, question, PLAN).answer_prefix
        assert (task.rules.system, prefix) == prefixes.get(protocol, (None, ""))


def test_test_prompts(root: Path) -> None:
    asked = "Which word is on green?\n(A) HOME\n(B) END\n(C) SHOP\n(D) DOOR\n(E) CUP\n(F) KEY"
    official = asked.replace("\n", "\nOptions:\n", 1)
    expected = {
        "official": f"Question: {official}\nOnly give the best option.",
        "lmms_eval": asked,
        "video_xl_2": f"\n{asked}\nOnly give the best option.\n\nBest option: (",
    }
    assert {p: prompts(mini(root, split="test", protocol=p))["PQA_0"] for p in TEST} == expected
    assert mini(root, split="test").rules.system == SYSTEM


@pytest.mark.parametrize(("benchmark", "split"), [("mlvu", "dev"), ("mlvu_test", "test")])
def test_prompts_are_those_of_the_published_code(tmp_path: Path, benchmark: str, split: str) -> None:
    for number, (sample, text) in enumerate(golden_prompts(benchmark)):
        folder = tmp_path / str(number)
        write_parquet(folder / benchmark / "test.parquet", [{**sample, "answer": "A"}])
        assert list(prompts(at(MLVU(split=split, protocol="video_xl_2"), folder)).values()) == [text]


def test_odd_option_lines_stay_as_they_are(tmp_path: Path) -> None:
    whole = "Say (A) or\n(1) not?\n(A)yes\n(B) no\nor so\n(C)  (B)\n(D)"
    row = {"video_name": "a.mp4", "question": whole, "answer": "B", "task_type": "ego"}
    write_parquet(tmp_path / "mlvu" / "test.parquet", [row])
    task = at(MLVU(protocol="video_xl_2"), tmp_path)
    assert list(prompts(task).values()) == [f"\n{whole}\nOnly give the best option.\n\nBest option: ("]
    ((_, question),) = questions(task).values()
    assert (question.text, question.options) == ("Say (A) or\n(1) not?", ("yes", "no\nor so", " (B)", ""))


def test_generation_prompts(root: Path) -> None:
    for split in ("dev_generation", "test_generation"):
        task = mini(root, split=split)
        assert task.rules.system == (
            "Carefully watch this video and pay attention to every detail. "
            "Based on your observations, answer the given questions."
        )
        assert task.rules.answer_prefix == ""
        assert sorted(prompts(task).values()) == [
            "Please describe the scene when the picture is yellow,\nincluding what moves in it.",
            "Please summarize the main content of this video.",
        ]


# Layouts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["dev", "test"])
def test_the_hub_copy_gives_the_same_questions(root: Path, tmp_path: Path, split: str) -> None:
    copy, official = at(MLVU(split=split), hub_copy(root, tmp_path, split)), mini(root, split=split)
    usable = [q for _, q in questions(official).values() if q.gold in tuple("ABCDEF")]
    here = [q for _, q in questions(copy).values()]

    def content(q: Question) -> tuple[Any, ...]:
        return q.text, q.options, q.gold, q.groups["task"], q.groups["ability"]

    assert sorted(map(content, here)) == sorted(map(content, usable))
    assert all(item.video.path.is_file() for item, _ in questions(copy).values())
    assert set(questions(copy)) == {f"{split}-{i}" for i in range(len(here))}


def test_equal_file_names_share_one_prefill_in_the_flat_copy(root: Path, tmp_path: Path) -> None:
    flat = {item.video.path.name: len(item.questions) for item in at(MLVU(), hub_copy(root, tmp_path)).items()}
    assert flat["movie101_1.mp4"] == 4 + 2
    foldered = [len(c.questions) for c in mini(root).items() if c.video.path.name == "movie101_1.mp4"]
    assert foldered == [4, 2]


def test_ids_of_the_hub_copy_are_kept_where_it_has_them(root: Path, tmp_path: Path) -> None:
    rows = hub_rows(root, "test")
    given = [f"AR_{i}" for i in range(len(rows))]
    numbered = [{**row, "question_id": id} for row, id in zip(rows, given, strict=True)]
    write_parquet(tmp_path / "a" / "mlvu_test" / "test.parquet", numbered)
    assert set(questions(at(MLVU(split="test"), tmp_path / "a"))) == set(given)
    numbered[3]["question_id"] = ""
    write_parquet(tmp_path / "b" / "mlvu_test" / "test.parquet", numbered)
    assert set(questions(at(MLVU(split="test"), tmp_path / "b"))) == {f"test-{i}" for i in range(len(rows))}


def test_the_downloads_of_both_official_repositories(root: Path, tmp_path: Path) -> None:
    """MLVU/ and MLVU_Test/ as they are unpacked, the test videos in their archive's own folder."""
    (tmp_path / "MLVU").symlink_to(root)
    (tmp_path / "test-ground-truth").symlink_to(root / "test-ground-truth")
    (tmp_path / "MLVU_Test" / "video").mkdir(parents=True)
    (tmp_path / "MLVU_Test" / "video" / "video").symlink_to(root / "MLVU_Test" / "video")
    for split, n in (("dev", 20), ("test", 12), ("dev_generation", 2), ("test_generation", 2)):
        found = questions(mini(tmp_path, split=split))
        assert len(found) == n
        assert all(item.video.path.is_file() for item, _ in found.values())
        assert all(q.groups["length"] for _, q in found.values())


def test_the_test_file_without_answers_is_asked_and_submitted(root: Path, tmp_path: Path) -> None:
    (tmp_path / "test_multi_choice_tasks.json").symlink_to(root / "test_multi_choice_tasks.json")
    task = at(MLVU(split="test"), tmp_path)
    records = answer(task, lambda q: "F) that")
    assert {record.score for record in records} == {None}
    (option,) = {entry["option"] for entry in json.loads(task.submission(records)["test_res.json"])}
    assert option == "F"


# Bad input -----------------------------------------------------------------------------------------------------------


def test_a_short_copy_is_named(root: Path) -> None:
    for split, found, wanted in (("dev", 20, "2174 or 2175"), ("test", 12, "502"), ("dev_generation", 2, "418")):
        with pytest.raises(DataError, match=rf"{found} questions .* a complete copy has {wanted}"):
            complete(MLVU(split=split), root).items()


def test_no_data_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no MLVU \(dev\): expected json/1_plotQA\.json, or mlvu/test-"):
        list(at(MLVU(), tmp_path).items())
    hub_copy(root, tmp_path)
    with pytest.raises(
        DataError, match=r"MLVU \(dev_generation\): .*8_sub_scene\.json; the hub's copies .* have multiple choice"
    ):
        list(at(MLVU(split="dev_generation"), tmp_path).items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": "A or B"}, r'1_plotQA\.json, row 1, column "candidates": expected a list'),
        ({"question": 3}, r'row 1, column "question": expected text, found 3'),
        ({"duration": "long"}, r'row 1, column "duration": expected seconds, found \'long\''),
        ({"video": None}, r'row 1, column "video": expected text'),
    ],
)
def test_a_malformed_row_is_named(root: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    (tmp_path / "json").mkdir()
    row = read(root / "json" / "1_plotQA.json")[0] | change
    (tmp_path / "json" / "1_plotQA.json").write_text(json.dumps([row]))
    with pytest.raises(DataError, match=message):
        list(at(MLVU(), tmp_path).items())


def test_protocols_differ_by_split() -> None:
    with pytest.raises(ConfigError, match=r"Choose one of: official, lmms_eval, video_xl_2\."):
        MLVU(split="test", protocol="videochat_flash")
    with pytest.raises(ConfigError, match=r"Choose one of: official\."):
        MLVU(split="dev_generation", protocol="lmms_eval")
    assert MLVU(split="test").hub != MLVU().hub


# Scores --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "protocol"), [*(("dev", p) for p in DEV), *(("test", p) for p in TEST)])
def test_oracle_and_garbage(root: Path, split: str, protocol: str) -> None:
    """All right is 100, but for the dev row whose answer is not among its options, and for the test golds E and F under
    the extractor that knows four letters."""
    task = mini(root, split=split, protocol=protocol)
    records = answer(task, oracle)
    wrong = {r.question for r in records if r.score != 1}
    if split == "dev":
        assert wrong == {"2_needle-2"}
    elif protocol == "lmms_eval":
        assert wrong == {"TR_0", "TR_1", "AR_0", "NQA_0", "AO_0", "AC_0"}
    else:
        assert wrong == set()
    garbage = task.summarize(answer(task, lambda q: "no idea"))
    assert garbage.headline.value == 0
    assert garbage.n_invalid == len(records)


def test_macro_and_micro_part(root: Path) -> None:
    """Right in plotQA, ego and topic reasoning only: 11 of 20 questions, three of seven tasks."""
    kinds = {"plotQA", "ego", "topic_reasoning"}

    def reply(q: Question) -> str:
        return f"{q.gold if q.groups['task'][0] in kinds else 'no'})"

    task = mini(root)
    scores = task.summarize(answer(task, reply))
    assert scores.headline.metric == "M-Avg"
    assert scores.headline.value == pytest.approx(300 / 7)
    assert scores.metric("overall").value == pytest.approx(100 * 11 / 20)
    assert scores.metric("overall", "ability", "single detail").value == pytest.approx(100 * 7 / 11)
    assert scores.metric("overall", "ability", "holistic").value == pytest.approx(100 * 4 / 5)
    assert scores.metric("overall", "ability", "multi detail").value == 0
    assert {row.label for row in scores.rows if row.group == "length"} == {"00-05 min"}
    theirs = mini(root, protocol="video_xl_2")
    assert theirs.summarize(answer(theirs, reply)).headline.metric == "overall"


def test_the_published_pair_of_means() -> None:
    """Video-XL-2's seven task accuracies on dev: 74.79 over questions is 72.91 over tasks."""
    sizes = {"plotQA": 539, "needle": 355, "ego": 352, "count": 206, "order": 259, "anomaly_reco": 200}
    sizes["topic_reasoning"] = 263
    right = {"plotQA": 426, "needle": 302, "ego": 241, "count": 94, "order": 203, "anomaly_reco": 141}
    right["topic_reasoning"] = 219
    task = MLVU(protocol="video_xl_2")
    records = []
    for kind, size in sizes.items():
        item = VideoQuestions(Video(kind, Path(f"{kind}.mp4")), ())
        for i in range(size):
            question = Question(f"{kind}-{i}", "?", ("a", "b", "c", "d"), "A", groups={"task": (kind,)})
            records.append(record(task, item, question, "A" if i < right[kind] else "B"))
    scores = task.summarize(records)
    assert round(scores.headline.value or 0, 2) == 74.79
    assert round(scores.metric("M-Avg").value or 0, 2) == 72.91


def test_of_duplicated_candidates_the_official_code_takes_the_last(root: Path) -> None:
    rows = read(root / "json" / "3_ego.json")
    candidates, right = rows[1]["candidates"], rows[1]["answer"]
    first, last = (letter for letter, c in zip("ABCD", candidates, strict=True) if c == right)
    golds = {p: questions(mini(root, protocol=p))["3_ego-1"][1].gold for p in DEV}
    assert golds == {"official": last, "lmms_eval": first, "video_xl_2": first, "videochat_flash": first}


def test_the_official_prompt_strips_the_end_of_its_options(root: Path, tmp_path: Path) -> None:
    rows = read(root / "json" / "1_plotQA.json")[:1]
    rows[0]["candidates"][-1] += "  \n"
    (tmp_path / "json").mkdir()
    (tmp_path / "video").symlink_to(root / "video")
    for file in (root / "json").iterdir():
        kept = rows if file.name == "1_plotQA.json" else read(file)
        (tmp_path / "json" / file.name).write_text(json.dumps(kept))
    last = rows[0]["candidates"][-1]
    texts = {p: prompts(at(MLVU(protocol=p), tmp_path))["1_plotQA-0"] for p in DEV}
    assert texts["official"].endswith(f"(D) {last.rstrip()}\nOnly give the best option.")
    assert all(f"(D) {last}\n" in text for p, text in texts.items() if p != "official")


@pytest.mark.parametrize(
    ("reply", "official", "lmms_eval"),
    [
        ("E", "E", None),
        ("E) Dog", "E", "D"),
        ("F. A cat", None, "A"),
        ("B) Dog", "B", "B"),
        ("(C)", "C", "C"),
        ("B. Black", None, "B"),
    ],
)
def test_six_options_and_two_readers(root: Path, reply: str, official: str | None, lmms_eval: str | None) -> None:
    for protocol, letter in (("official", official), ("video_xl_2", official), ("lmms_eval", lmms_eval)):
        task = mini(root, split="test", protocol=protocol)
        assert {record.extracted for record in answer(task, lambda q: reply)} == {letter}, protocol


def test_submission_of_the_test_split(root: Path) -> None:
    task = mini(root, split="test")
    records = answer(task, lambda q: None if q.id == "TR_1" else f"{q.gold}) because" if q.id != "AC_0" else "?")
    (name, content), *more = task.submission(records).items()
    assert (name, more) == ("test_res.json", [])
    written = {entry["question_id"]: entry for entry in json.loads(content)}
    assert written["AR_0"] == {"question_id": "AR_0", "question_type": "anomaly_reco", "option": "F"}
    assert written["TR_1"]["option"] == written["AC_0"]["option"] == ""
    assert len(written) == 12
    assert mini(root).submission(answer(mini(root), oracle)) == {}


# Generation ----------------------------------------------------------------------------------------------------------


class Endpoint(ThreadingHTTPServer):
    """Answers chats by a function of their text, and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.chats: list[list[dict[str, str]]] = []
        self.temperatures: set[float] = set()
        self.extra: set[int | None] = set()
        self.replies = {
            "score_accuracy": "It is so. {'score_accuracy': 3.67, 'score_relevance': 5, 'total_score': 8.67}",
            "score_completeness": '```json\n{"score_completeness": 4, "score_reliability": 2, "total_score": 6}\n```',
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.chats.append(body["messages"])
        self.server.temperatures.add(body["temperature"])
        self.server.extra.add(body.get("top_k"))
        system = body["messages"][0]["content"]
        reply = next(text for key, text in self.server.replies.items() if key in system)
        content = json.dumps({"choices": [{"message": {"role": "assistant", "content": reply}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Endpoint]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def judged(endpoint: Endpoint, model: str = "judge") -> JudgeConfig:
    return JudgeConfig(base_url=endpoint.url, model=model)


def test_g_avg_is_the_mean_of_the_two_tasks(root: Path, endpoint: Endpoint) -> None:
    task = mini(root, split="dev_generation", judge=judged(endpoint))
    records = answer(task, lambda q: "A yellow picture." if "describe" in q.text else "Words on colours.")
    values = {record.groups["task"][0]: record.values for record in records}
    assert values["sub_scene"] == {"score_accuracy": 3.67, "score_relevance": 5}
    assert values["summary"] == {"score_completeness": 4, "score_reliability": 2}
    scores = task.summarize(records)
    assert scores.headline.metric == "G-Avg"
    assert scores.headline.value == pytest.approx((8.67 + 6) / 2)
    assert scores.metric("overall", "task", "summary").value == 6
    assert endpoint.temperatures == {0.0}


def test_the_judge_is_asked_in_the_official_words(root: Path, endpoint: Endpoint) -> None:
    """Indented by 28 blanks as the scripts are; the question of a caption loses its line break, points are a list."""
    task = mini(root, split="test_generation", judge=judged(endpoint))
    answer(task, lambda q: "two\nrows")
    (caption,) = (chat for chat in endpoint.chats if "ACCURACY" in chat[0]["content"])
    (summary,) = (chat for chat in endpoint.chats if "COMPLETENESS" in chat[0]["content"])
    gap = "\n" + " " * 28
    ask = (
        "Please score the respondent's answer according to the steps in the Instructions. "
        "You must end with a JSON dict to store the scores."
    )
    said = f"Respondent's Answer: two\nrows\n{' ' * 24}"
    assert caption[1]["content"] == (
        f"{gap}{ask}{gap}Question: Please describe the scene when the picture is yellow,including what moves in it."
        f"{gap}Scoring Points: ['The word CAR is shown', 'A blue square crosses the picture', "
        f"'It moves from left to right']{gap}{said}"
    )
    reference = next(q.gold for _, q in questions(task).values() if "summarize" in q.text)
    assert summary[1]["content"] == f"{gap}{ask}{gap}Standard Answer: {reference}{gap}{said}"
    for chat, first, last in (
        (caption, "You are required to evaluate a respondent's answer based on", "score_acc + score_rele}"),
        (summary, "You are required to evaluate the performance of the respondent", "score_comp + score_reli}"),
    ):
        assert [message["role"] for message in chat] == ["system", "user"]
        text = chat[0]["content"]
        assert text.startswith(f"{gap}##TASK DESCRIPTION: {gap}{first}")
        assert text.endswith(f"{last}\n{' ' * 24}")
        assert text.count("Score 1:") == 2
        assert all(line.startswith(" " * 28) for line in text.split("\n")[1:-1])
    assert "respondent\u2019s answer to the question" in caption[0]["content"]


@pytest.mark.parametrize("said", ["", "score_accuracy: n/a, score_relevance: 4", "score_accuracy: 3"])
def test_a_judgement_that_cannot_be_read_leaves_the_question_ungraded(
    root: Path, endpoint: Endpoint, said: str
) -> None:
    endpoint.replies["score_accuracy"] = said
    task = mini(root, split="dev_generation", judge=judged(endpoint))
    records = answer(task, lambda q: "hm")
    (bad,) = (record for record in records if not record.valid)
    assert (bad.status, bad.score) == ("ungraded", None) and f"cannot be read: {said!r}" in bad.note
    assert len(endpoint.chats) == 3, "it was asked for once more"


def test_a_judgement_without_scores_counts_as_0_as_in_the_official_script(root: Path, endpoint: Endpoint) -> None:
    endpoint.replies["score_accuracy"] = "I would rather not."
    task = mini(root, split="dev_generation", judge=judged(endpoint))
    records = answer(task, lambda q: "hm")
    scores = task.summarize(records)
    assert scores.headline.value == pytest.approx((0 + 6) / 2)
    assert scores.n_invalid == 1
    (bad,) = (record for record in records if not record.valid)
    assert "cannot be read: 'I would rather not.'" in bad.note
    assert len(endpoint.chats) == 2


def test_the_same_answer_is_judged_once(root: Path, endpoint: Endpoint) -> None:
    for _ in range(3):
        answer(mini(root, split="dev_generation", judge=judged(endpoint)), lambda q: "the same")
    assert len(endpoint.chats) == 2


def test_without_a_judge_answers_are_kept_and_rescored_later(
    root: Path, endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "replies.jsonl"
    ids = questions(mini(root, split="dev_generation"))
    log.write_text("".join(json.dumps({"question_id": id, "reply": "It is yellow."}) + "\n" for id in ids))
    where = [f"source.root={root}", "task.allow_missing=true", "min_coverage=0"]
    results = tmp_path / "results"
    overrides = ["task=mlvu", "task.split=dev_generation", "source=local", *where, f"results={results}", "name=some"]
    assert import_log(Arguments([str(log)], [*overrides, "tracker=csv"], MINE)) == 0
    (run,) = (results / "mlvu" / "some").iterdir()
    waiting = {(r.status, r.score, r.note) for r in read_records(run)}
    assert waiting == {("ungraded", None, "not judged: no judge is set")}
    named = [f"task.judge.base_url={endpoint.url}", "task.judge.model=j"]
    for settings, told in (
        ([], "2 replies to grade by MLVU (dev_generation, protocol official); they would stay ungraded"),
        (named, f"2 requests to j at {endpoint.url} (judge.max_calls=5000), 0 judgements are cached"),
    ):
        assert rescore(Arguments([str(run)], [*settings, "dry_run=true"], MINE)) == 0
        assert told in capsys.readouterr().out
    assert endpoint.chats == [] and list(run.parent.iterdir()) == [run]
    assert rescore(Arguments([str(run)], [*named, "+task.judge.extra.top_k=20"], MINE)) == 0
    assert endpoint.extra == {20}
    scores_table = capsys.readouterr().err
    assert rescore(Arguments([str(run)], [*named, "+task.judge.extra.top_k=20", "dry_run=true"], MINE)) == 0
    assert "0 requests to j" in capsys.readouterr().out
    (graded,) = (path for path in run.parent.iterdir() if path != run)
    assert sorted(r.score for r in read_records(graded)) == [pytest.approx(6), pytest.approx(8.67)]
    assert re.search(r"G-Avg\W+7\.3", scores_table)


def test_the_judge_in_the_configuration(endpoint: Endpoint) -> None:
    node = {"_target_": "evalkit.tasks.mlvu.MLVU", "split": "dev_generation"}
    task = instantiate({**node, "judge": {"base_url": endpoint.url, "model": "j", "max_calls": 7}}, "task")
    judge = task.judge.judge()
    assert (judge.settings.model, judge.settings.max_calls) == ("j", 7)
    assert task.judge.judge() is judge
    assert instantiate(node, "task").judge.judge() is None
    with pytest.raises(ConfigError, match=r'judge has no setting "modle".*"model"'):
        instantiate({**node, "judge": {"modle": "j"}}, "task")
    with pytest.raises(ConfigError, match=r"judge\.model is set without judge\.base_url"):
        instantiate({**node, "judge": {"model": "j"}}, "task")
    with pytest.raises(ConfigError, match="is not a URL"):
        instantiate({**node, "judge": {"base_url": "localhost", "model": "j"}}, "task")
