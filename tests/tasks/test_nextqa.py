"""NExT-QA: the official CSV and the hub's table give the same questions, prompts byte by byte, accuracy by family."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import ConfigError, DataError
from evalkit.tasks.nextqa import NExTQA
from evalkit.video.scenes import nearest_colour

from .answers import answer, at, complete, made, oracle, pixels_at, prompts, questions, write_parquet


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nextqa")
    NExTQA().make_miniature(folder)
    return folder


def mini(root: Path, **settings: Any) -> Any:
    return made(NExTQA(**settings), root)


def hub_copy(root: Path, to: Path) -> Path:
    """What lmms-eval downloads: numbers as numbers, videos flat."""
    with (root / "test.csv").open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        row |= {column: int(row[column]) for column in ("video", "frame_count", "width", "height", "answer", "qid")}
    write_parquet(to / "MC" / "test-00000-of-00001.parquet", rows)
    (to / "NExTVideo").mkdir()
    for video in (root / "NExTVideo").rglob("*.mp4"):
        shutil.copy(video, to / "NExTVideo" / video.name)
    return to


def test_the_miniature_is_what_its_questions_say(root: Path) -> None:
    task = mini(root)
    items = list(task.items())
    assert [len(item.questions) for item in items] == [8, 8]
    assert all(item.video.path.is_file() for item in items)
    first, second = (item.video.path for item in items)
    assert [nearest_colour(p[:8]) for p in pixels_at(first, 1, 5, 9, 13)] == ["red", "yellow", "green", "black"]
    assert [nearest_colour(p[:8]) for p in pixels_at(second, 1, 6, 11, 16)] == ["white", "cyan", "orange", "gray"]
    families = {label for _, q in questions(task).values() for label in q.groups["family"]}
    assert families == {"causal", "temporal", "descriptive"}


def test_the_miniature_has_the_same_bytes_every_time(root: Path, tmp_path: Path) -> None:
    NExTQA().make_miniature(tmp_path)
    for file in (path for path in root.rglob("*") if path.is_file()):
        assert file.read_bytes() == (tmp_path / file.relative_to(root)).read_bytes()


def test_both_layouts_give_the_same_questions(root: Path, tmp_path: Path) -> None:
    hub = at(NExTQA(), hub_copy(root, tmp_path))
    ours = {id: question for id, (_, question) in questions(mini(root)).items()}
    theirs = questions(hub)
    assert {id: question for id, (_, question) in theirs.items()} == ours
    assert all(item.video.path.is_file() for item, _ in theirs.values())
    assert "3238737531_0" in ours


def test_prompts(root: Path) -> None:
    plain = "why does the picture turn black\nA. it ends\nB. it is red\nC. a dog came\nD. it rains\nE. a cat left"
    assert prompts(mini(root))["3238737531_0"] == plain
    directly = "\nAnswer with the option's letter from the given choices directly."
    assert prompts(mini(root, protocol="llava_video"))["3238737531_0"] == plain + directly


def test_texts_stay_verbatim_and_are_stripped_in_the_prompt_alone(root: Path, tmp_path: Path) -> None:
    copy = hub_copy(root, tmp_path)
    rows = [{"video": 3238737531, "qid": 0, "type": "CW", "question": " why ", "answer": 0}]
    rows[0] |= {f"a{i}": f" option {i} " for i in range(5)}
    write_parquet(copy / "MC" / "test-00000-of-00001.parquet", rows)
    task = at(NExTQA(), copy)
    ((_, question),) = questions(task).values()
    assert question.text == " why " and question.options[1] == " option 1 "
    assert prompts(task)["3238737531_0"] == "why\nA. option 0\nB. option 1\nC. option 2\nD. option 3\nE. option 4"


def test_scores_by_family(root: Path) -> None:
    task = mini(root)
    scores = task.summarize(answer(task, oracle))
    assert [row.value for row in scores.rows if not row.group] == [100.0] * 5
    constant = task.summarize(answer(task, lambda q: "A"))
    golds = {id: (q.gold, q.groups["family"][0]) for id, (_, q) in questions(task).items()}
    for letter, family in (("C", "causal"), ("T", "temporal"), ("D", "descriptive")):
        part = [gold == "A" for gold, label in golds.values() if label == family]
        assert constant.metric(f"Acc@{letter}").value == pytest.approx(100 * sum(part) / len(part))
    assert constant.headline.value == pytest.approx(25.0)  # 4 of 16
    assert constant.metric("accuracy", "type", "TN").n == 4  # TP counts as TN
    assert constant.metric("accuracy", "type", "DC").value == 0


def test_a_reply_without_a_letter_draws_one_and_says_so(root: Path) -> None:
    task = mini(root)
    records = answer(task, lambda q: "no idea")
    again = answer(task, lambda q: "no idea")
    assert [r.extracted for r in records] == [r.extracted for r in again]
    assert len({r.extracted for r in records}) > 1 and all(not r.valid for r in records)
    scores = task.summarize(records)
    assert scores.n_invalid == 16
    assert scores.metric("accuracy, draws in expectation").value == pytest.approx(20.0)


def test_failed_questions_count_as_wrong(root: Path) -> None:
    task = mini(root)
    scores = task.summarize(answer(task, lambda q: None if q.groups["family"] == ("causal",) else q.gold))
    assert scores.metric("Acc@C").value == 0 and scores.metric("Acc@T").value == 100
    assert scores.n_failed == 4 and scores.coverage == pytest.approx(0.75)


def test_a_short_copy_is_an_error(root: Path) -> None:
    task = complete(NExTQA(), root)
    with pytest.raises(DataError, match=r"16 questions below .*, a complete copy has 8564"):
        list(task.items())


def test_mistakes_in_the_data_name_file_row_and_column(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no NExT-QA \(val\)"):
        list(NExTQA(split="val").load(tmp_path))
    text = (root / "test.csv").read_text()
    (tmp_path / "test.csv").write_text(text.replace(",0,0,CW,", ",7,0,CW,", 1))
    with pytest.raises(DataError, match=r'test.csv, row 1, column "answer": expected a number from 0 to 4, found .7.'):
        list(NExTQA().load(tmp_path))
    (tmp_path / "test.csv").write_text(text.replace(",CW,", ",XX,", 1))
    with pytest.raises(DataError, match=r'row 1, column "type": expected C., T. or D., found .XX.'):
        list(NExTQA().load(tmp_path))
    (tmp_path / "test.csv").write_text(text)
    (tmp_path / "map_vid_vidorID.json").write_text("{")
    with pytest.raises(DataError, match=r"map_vid_vidorID.json cannot be read"):
        list(NExTQA().load(tmp_path))


def test_a_missing_video_is_named_where_the_official_layout_has_it(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    (copy / "NExTVideo" / "1164" / "3238737531.mp4").unlink()
    places = {item.video.id: item.video.path for item in at(NExTQA(), copy).items()}
    assert places["3238737531"] == copy / "NExTVideo" / "1164" / "3238737531.mp4"
    assert places["4010069381"].exists()


def test_unknown_settings() -> None:
    with pytest.raises(ConfigError, match="NExT-QA has no such protocol"):
        NExTQA(protocol="official")
    with pytest.raises(ConfigError, match="Choose one of: test, val"):
        NExTQA(split="train")
