"""LVBench: three layouts that give the same questions, prompts byte by byte, both ways to count capabilities, and the
published scores of Video-XL-2 from its own replies."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import ConfigError, DataError
from evalkit.tasks.lvbench import LVBench, clue_length
from evalkit.video.scenes import nearest_colour
from tests.replay import REPLAY, needs_replay

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
    read_rows,
    write_parquet,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lvbench")
    LVBench().make_miniature(folder)
    return folder


def mini(root: Path, **settings: Any) -> Any:
    return made(LVBench(**settings), root)


def hub_rows(root: Path) -> list[dict[str, Any]]:
    """The rows of lmms-eval's copy: one a question."""
    return [
        {"video_path": f"{video['key']}.mp4", "type": video["type"], **qa}
        for video in read_rows(root / "video_info.meta.jsonl")
        for qa in video["qa"]
    ]


def candidate_rows(root: Path) -> list[dict[str, Any]]:
    """The rows of Video-XL-2's copy: the options as a list, with their letters; no uid."""
    rows = []
    for row in hub_rows(root):
        stem, *options = re.split(r"\n(?=\([A-D]\))", row["question"])
        row |= {"video": row.pop("video_path").removesuffix(".mp4"), "question": stem, "candidates": options}
        row["answer"] = options["ABCD".index(row["answer"])]
        del row["uid"]
        rows.append(row)
    return rows


# Layouts -------------------------------------------------------------------------------------------------------------


def test_the_miniature_is_as_the_real_file(root: Path) -> None:
    task = mini(root)
    items = list(task.items())
    assert [len(item.questions) for item in items] == [16, 7, 7]
    assert [item.video.duration_s for item in items] == [3600, 80, 150]
    assert all(item.video.path.is_file() for item in items)
    assert {len(q.groups["capability"]) for item in items for q in item.questions} == {1, 2, 3}
    assert sum(q.groups["clue"] == ("unknown",) for item in items for q in item.questions) == 1
    assert {q.gold for item in items for q in item.questions} == set("ABCD")
    assert sum("101:21" in text for text in prompts(task).values()) == 1


def test_the_same_miniature_twice(root: Path, tmp_path: Path) -> None:
    LVBench().make_miniature(tmp_path)
    files = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()]
    assert len(files) == 4
    for file in files:
        assert (tmp_path / file).read_bytes() == (root / file).read_bytes()


def test_its_questions_can_be_answered_by_looking(root: Path) -> None:
    video = read_rows(root / "video_info.meta.jsonl")[0]
    asked = [qa for qa in video["qa"] if qa["question"].startswith("What colour")]
    assert len(asked) == 8
    starts = [int(qa["time_reference"][:2]) * 60 + int(qa["time_reference"][3:5]) for qa in asked]
    for qa, pixels in zip(asked, pixels_at(root / "videos" / "hourlonglve.mp4", *(s + 1 for s in starts)), strict=True):
        assert f"({qa['answer']}) {nearest_colour(pixels[:10])}" in qa["question"]


@pytest.mark.parametrize("protocol", LVBench.protocols)
@pytest.mark.parametrize("inline", [True, False])
def test_the_hub_copy_gives_the_same_questions(root: Path, tmp_path: Path, protocol: str, inline: bool) -> None:
    rows = hub_rows(root)
    if not inline:  # the copy's other form: options beside the question
        for row in rows:
            row["question"], *options = re.split(r"\n\([A-D]\) ", row["question"])
            row["options"] = options
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", rows)
    (tmp_path / "videos").symlink_to(root / "videos")
    copy, official = at(LVBench(protocol=protocol), tmp_path), mini(root, protocol=protocol)
    assert prompts(copy) == prompts(official)
    for (one, q), (other, p) in zip(questions(copy).values(), questions(official).values(), strict=True):
        assert q == p
        assert (one.video.id, one.cluster) == (other.video.id, other.cluster)
        assert one.video.path.samefile(other.video.path)


def test_the_copy_with_candidates_gives_the_same_questions(root: Path, tmp_path: Path) -> None:
    for kind in ("cartoon", "live", "sport"):
        rows = [row for row in candidate_rows(root) if row["type"] == kind]
        (tmp_path / "json").mkdir(exist_ok=True)
        (tmp_path / "json" / f"lvbench_{kind}.json").write_text(json.dumps(rows))
    copy, official = at(LVBench(protocol="video_xl_2"), tmp_path), mini(root, protocol="video_xl_2")
    assert sorted(prompts(copy).values()) == sorted(prompts(official).values())
    assert set(questions(copy)) == {
        f"lvbench_{k}-{i}" for k, n in (("live", 16), ("cartoon", 7), ("sport", 7)) for i in range(n)
    }
    golds = {(item.video.id, q.text): q.gold for item, q in questions(official).values()}
    assert {(item.video.id, q.text): q.gold for item, q in questions(copy).values()} == golds


def test_rows_without_ids_are_numbered_through_all_tables(root: Path, tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "uid"} for row in hub_rows(root)]
    write_parquet(tmp_path / "one" / "train.parquet", rows)
    assert list(questions(at(LVBench(), tmp_path / "one"))) == [str(i) for i in range(30)]
    write_parquet(tmp_path / "two" / "train-00000.parquet", rows[:10])
    write_parquet(tmp_path / "two" / "train-00001.parquet", rows[10:])
    assert len(questions(at(LVBench(), tmp_path / "two"))) == 30


def test_one_clip_a_video_in_every_layout(root: Path, tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", hub_rows(root))
    assert [len(item.questions) for item in at(LVBench(), tmp_path).items()] == [16, 7, 7]


# Bad input -----------------------------------------------------------------------------------------------------------


def test_a_short_copy_is_named(root: Path) -> None:
    task = complete(LVBench(), root)
    with pytest.raises(DataError, match=r"30 questions .* a complete copy has 1549.*allow_missing"):
        list(task.items())


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no LVBench: expected video_info\.meta\.jsonl"):
        list(at(LVBench(), tmp_path).items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "Which one?\n(A) this\n(C) that"}, r'row 1, column "question": expected the options as lines'),
        ({"question": "Which one?"}, r'row 1, column "question": expected the options as lines'),
        ({"answer": "E"}, r"row 1, column \"answer\": 'E' is neither a letter nor one of the options"),
        ({"answer": None}, r'row 1, column "answer": expected text, found None'),
        ({"question_type": "reasoning"}, r'row 1, column "question_type": expected a list'),
    ],
)
def test_a_malformed_row_is_named(root: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    row = hub_rows(root)[0] | change
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=message) as caught:
        list(at(LVBench(), tmp_path).items())
    assert "train.jsonl" in str(caught.value)


@pytest.mark.parametrize("qa", [None, [], ["What?"], {"uid": "0"}])
def test_a_video_without_questions_is_named(tmp_path: Path, qa: Any) -> None:
    (tmp_path / "video_info.meta.jsonl").write_text(json.dumps({"key": "a", "type": "tv", "qa": qa}))
    with pytest.raises(DataError, match=r'video_info\.meta\.jsonl, row 1, column "qa": expected a list of objects'):
        list(at(LVBench(), tmp_path).items())


def test_candidates_without_letters_are_refused(root: Path, tmp_path: Path) -> None:
    row = candidate_rows(root)[0]
    row["candidates"][1] = "Green"
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=r'column "candidates": expected \(B\) and a blank before \'Green\''):
        list(at(LVBench(), tmp_path).items())


def test_unknown_choices_are_named() -> None:
    with pytest.raises(ConfigError, match='Did you mean "lmms_eval"'):
        LVBench(protocol="lmms-eval")


# Prompts -------------------------------------------------------------------------------------------------------------


def test_prompts_byte_by_byte(tmp_path: Path) -> None:
    options = ["He is tired", "The light is red", "12:31 is his break", "A dog crosses"]
    lines = "(A) He is tired\n(B) The light is red\n(C) 12:31 is his break\n(D) A dog crosses"
    row = {"video_path": "vid.mp4", "question": "Why does he stop at 12:30?", "options": options, "answer": "B"}
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    twice = (
        "Why does he stop at 12:30?\nA. (A) He is tired\nB. (B) The light is red\nC. (C) 12:31 is his break\n"
        "D. (D) A dog crosses\nAnswer with the option's letter from the given choices directly."
    )
    expected = {
        "official": f"Why does he stop at 12:30?\n{lines}",
        "lmms_eval": f"Why does he stop at 12:30?\n{lines}\nAnswer the question with the option letter",
        "video_xl_2": twice,
        "videochat_flash": twice,
    }
    for protocol, text in expected.items():
        task = at(LVBench(protocol=protocol), tmp_path)
        (item, question), *_ = questions(task).values()
        prompt = task.prompt(item, question, PLAN)
        assert (prompt.text, prompt.answer_prefix, task.rules.system) == (text, "", None)
        assert (prompt.question, question.gold) == ("Why does he stop at 12:30?", "B")
    assert set(expected) == set(LVBench.protocols)


def test_prompts_are_those_of_the_published_logs(tmp_path: Path) -> None:
    for number, (sample, text) in enumerate(golden_prompts("lvbench")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "train.jsonl").write_text(json.dumps({**sample, "answer": sample["candidates"][1]}))
        assert list(prompts(at(LVBench(protocol="video_xl_2"), folder)).values()) == [text]


# Scores --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", LVBench.protocols)
def test_oracle_and_garbage(root: Path, protocol: str) -> None:
    task = mini(root, protocol=protocol)
    perfect = task.summarize(answer(task, oracle))
    assert perfect.headline.value == 100
    assert perfect.headline.n == 30
    assert perfect.coverage == 1
    assert {row.value for row in perfect.rows} == {100}
    garbage = task.summarize(answer(task, lambda q: "hmm, unclear to mee"))
    assert garbage.headline.value == 0
    assert garbage.n_invalid == 30


def test_constant_a_by_hand(root: Path) -> None:
    """Of the 30 golds 8 are A: 4 of 16, 2 of 7 and 2 of 7."""
    task = mini(root)
    scores = task.summarize(answer(task, lambda q: "A"))
    assert scores.headline.value == pytest.approx(100 * 8 / 30)
    for kind, right, n in (("live", 4, 16), ("cartoon", 2, 7), ("sport", 2, 7)):
        row = scores.metric("accuracy", "type", kind)
        assert (row.value, row.n) == (pytest.approx(100 * right / n), n)
    multi = [scores.metric("accuracy", "capability", row.label) for row in scores.rows if row.group == "capability"]
    first = [row for row in scores.rows if row.group == "first_capability"]
    labels = sum(len(q.groups["capability"]) for _, q in questions(task).values())
    assert sum(row.n for row in multi) == labels > 30
    assert sum(row.n for row in first) == 30


def test_an_empty_reply_leaves_the_denominator_where_the_protocol_says_so(root: Path) -> None:
    for protocol, n in (("official", 30), ("lmms_eval", 30), ("video_xl_2", 29), ("videochat_flash", 29)):
        task = mini(root, protocol=protocol)
        scores = task.summarize(answer(task, lambda q: "" if q.id == "0" else oracle(q)))
        assert scores.headline.n == n, protocol
        assert scores.headline.value == pytest.approx(100 * 29 / n)


def test_submission_is_what_the_official_scorer_makes(root: Path) -> None:
    """Labels count once each; a failed question stands in the answers and counts as wrong."""
    task = mini(root)
    records = answer(task, lambda q: None if q.id == "3" else "B")
    files = task.submission(records)
    answers, result = json.loads(files["answers.json"]), json.loads(files["result.json"])
    assert answers == {str(i): "" if i == 3 else "B" for i in range(30)}
    right: dict[str, list[bool]] = {}
    for video in read_rows(root / "video_info.meta.jsonl"):
        for qa in video["qa"]:
            for label in [*qa["question_type"], "Overall"]:
                right.setdefault(label, []).append(answers[qa["uid"]] == qa["answer"])
    names = {"key information retrieval": "KIR", "event understanding": "EU", "summarization": "Sum"}
    names |= {"entity recognition": "ER", "reasoning": "Rea", "temporal grounding": "TG", "Overall": "Overall"}
    assert result == {names[label]: sum(marks) / len(marks) for label, marks in right.items()}
    assert list(result)[-1] == "Overall"


@pytest.mark.parametrize(
    ("reference", "label"),
    [
        ("00:15-00:19", "0-10 s"),
        ("00:00-00:10", "0-10 s"),
        ("00:00-00:11", "10-60 s"),
        ("101:21-101:21", "0-10 s"),
        ("35:00-45:00", "60-600 s"),
        ("00:00-114:16", "over 600 s"),
        ("116:50-108:00", "unknown"),
        ("None-None", "unknown"),
        ("08:17-None", "unknown"),
        (None, "unknown"),
        (12, "unknown"),
    ],
)
def test_clue_lengths(reference: Any, label: str) -> None:
    assert clue_length(reference) == label


# The real thing ------------------------------------------------------------------------------------------------------


@needs_replay
def test_the_real_annotations_are_complete(tmp_path: Path) -> None:
    nested = at(LVBench(), REPLAY / "lvbench" / "annotations")
    items = list(nested.items())
    assert (len(items), sum(len(item.questions) for item in items)) == (103, 1549)
    assert nested.expected_questions() == 1549
    (tmp_path / "flat.parquet").symlink_to(REPLAY / "lvbench" / "annotations" / "lvbench_flat.parquet")
    flat = at(LVBench(), tmp_path)
    assert questions(flat).keys() == questions(nested).keys()
    assert [q for _, q in questions(flat).values()] == [q for _, q in questions(nested).values()]
    labels = [label for item in items for q in item.questions for label in q.groups["capability"]]
    assert len(labels) == 2094


@needs_replay
def test_the_official_prompt_is_the_question_as_it_stands(tmp_path: Path) -> None:
    task = at(LVBench(), REPLAY / "lvbench" / "annotations")
    with gzip.open(REPLAY / "lvbench" / "annotations" / "video_info.meta.jsonl.gz", "rt", encoding="utf-8") as file:
        verbatim = {qa["uid"]: qa["question"] for line in file for qa in json.loads(line)["qa"]}
    assert prompts(task) == verbatim


@needs_replay
@pytest.mark.parametrize("setting", ["pure", "w_chunk", "w_chunk_bilevel"])
def test_recorded_answers_give_the_published_scores(setting: str) -> None:
    expected = json.loads((REPLAY / "expected_scores.json").read_text(encoding="utf-8"))["lvbench"][setting]
    with gzip.open(REPLAY / "lvbench" / "predictions" / f"{setting}.jsonl.gz", "rt", encoding="utf-8") as file:
        replies = {row["question_id"]: row["output"] for row in map(json.loads, file)}
    task = at(LVBench(protocol="video_xl_2"), REPLAY / "lvbench" / "annotations")
    scores = task.summarize(answer(task, lambda q: replies[q.id]))
    assert round(scores.headline.value or 0, 4) == expected["overall"]["accuracy"]
    assert scores.headline.n == 1549
    for group, table in (
        ("type", "type"),
        ("capability", "question_type"),
        ("first_capability", "first_question_type"),
    ):
        for label, want in expected[table].items():
            row = scores.metric("accuracy", group, label)
            assert (round(row.value or 0, 4), row.n) == (want["accuracy"], want["total"]), (group, label)
