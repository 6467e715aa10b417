"""MVBench: whole videos with times to cut at, parts that are cut already, folders of frames; prompts byte by byte; the
official scorer's first word and lmms-eval's letter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import DataError
from evalkit.tasks._mini.mvbench import CUT, SCENE_S, scenes
from evalkit.tasks.mvbench import PLACES, FirstWord, MVBench
from evalkit.types import FrameRequest, Question
from evalkit.video.reader import FrameReader
from evalkit.video.scenes import nearest_colour
from evalkit.video.settings import VideoSettings

from .answers import answer, at, made, oracle, prompts, questions


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mvbench")
    MVBench().make_miniature(folder)
    return folder


def mini(root: Path, **settings: Any) -> Any:
    return made(MVBench(**settings), root)


def branch_video(root: Path, to: Path) -> Path:
    """A copy like the branch `video`: no folder video/, parts in files of their own, named by their times."""
    shutil.copytree(root / "json", to / "json")
    for place in set(PLACES.values()):
        folder = to / (place.branch or place.whole)
        folder.mkdir(parents=True)
        (source,) = (root / "video" / place.whole).iterdir()
        if source.is_dir():
            source = next((root / "video" / "perception" / "videos").iterdir())  # any video will do
        if not place.cut:
            shutil.copy(source, folder / source.name)
    for task in CUT:
        for row in json.loads((root / "json" / f"{task}.json").read_text()):
            part = f"{Path(row['video']).stem}_{row['start']}_{row['end']}.mp4"
            shutil.copy(root / "video" / "perception" / "videos" / "perception_1.mp4", to / PLACES[task].branch / part)
    return to


def test_twenty_tasks_of_equal_size(root: Path) -> None:
    task = mini(root)
    found = questions(task)
    assert len(found) == 80 and len(PLACES) == 20
    assert {id.rpartition("-")[0] for id in found} == set(PLACES)
    assert all(item.video.path.exists() for item, _ in found.values())
    assert {len(q.options) for _, q in found.values()} >= {1, 3, 4, 5}
    # Questions about one part share a prefill; three tasks ask about the same parts of one file.
    parts = [item for item in task.items() if item.video.path.parent.name == "Charades_v1_480"]
    assert [len(item.questions) for item in parts] == [3, 3, 3, 3]
    assert len({item.cluster for item in parts}) == 1


def test_a_part_is_read_from_where_it_starts_to_where_it_ends(root: Path) -> None:
    """Also of a folder of frames: each part shows the one scene its question is about."""
    folders = sorted({place.whole for place in PLACES.values()})
    request = FrameRequest("uniform", 4)
    with FrameReader(VideoSettings(workers=1)) as reader:
        for task in ("action_sequence", "episodic_reasoning"):
            colours = [colour for colour, _ in scenes(folders.index(PLACES[task].whole))]
            for i in range(4):
                item, question = questions(mini(root))[f"{task}-{i}"]
                assert (item.video.start_s, item.video.end_s) == (i * SCENE_S + 0.5, (i + 1) * SCENE_S - 0.5)
                stream = reader.open(item.video, request)
                frames = next(stream.batches(4))
                assert {nearest_colour(frame[:8]) for frame in frames} == {colours[i]}
                assert question.options[i] == question.options["ABCD".index(str(question.gold))]


def test_parts_that_are_cut_already_are_not_cut_again(root: Path, tmp_path: Path) -> None:
    task = at(MVBench(), branch_video(root, tmp_path))
    found = questions(task)
    assert len(found) == 80
    for item, _ in found.values():
        assert item.video.path.is_file(), item.video.path
        assert item.video.start_s is None and item.video.end_s is None and item.video.fps is None
    assert found["action_sequence-1"][0].video.path.name == "star_1_3.5_5.5.mp4"
    assert found["episodic_reasoning-3"][0].video.path.name.endswith("_ep_9.5_11.5.mp4")
    whole = questions(mini(root))
    assert {id: q for id, (_, q) in found.items()} == {id: q for id, (_, q) in whole.items()}


def test_a_video_of_another_kind_than_the_row_says(root: Path, tmp_path: Path) -> None:
    copy = branch_video(root, tmp_path)
    rows = json.loads((copy / "json" / "action_antonym.json").read_text())
    for row in rows:
        row["video"] = row["video"].replace(".mp4", ".webm")
    (copy / "json" / "action_antonym.json").write_text(json.dumps(rows))
    item, _ = questions(at(MVBench(), copy))["action_antonym-0"]
    assert item.video.path.suffix == ".mp4" and item.video.path.is_file()


def test_times_of_other_tasks_are_not_cut_at(root: Path, tmp_path: Path) -> None:
    assert {task for task, place in PLACES.items() if place.cut} == set(CUT)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    rows = json.loads((copy / "json" / "object_shuffle.json").read_text())
    (copy / "json" / "object_shuffle.json").write_text(json.dumps([{**row, "start": 1.0, "end": 2.0} for row in rows]))
    item, _ = questions(at(MVBench(), copy))["object_shuffle-0"]
    assert item.video.start_s is None and item.video.end_s is None


def test_prompts(root: Path) -> None:
    official = prompts(mini(root))["action_sequence-0"]
    assert official == (
        "Question: Which word is shown?\nOptions:\n(A) KEY\n(B) CUP\n(C) HAT\n(D) BUS\nOnly give the best option."
    )
    rules = mini(root).rules
    assert rules.answer_prefix == "Best option:(" and str(rules.system).endswith("addresses the question.\n")
    assert prompts(mini(root, protocol="lmms_eval"))["action_sequence-0"] == (
        "Question:Which word is shown?\nOption:\n(A) KEY\n(B) CUP\n(C) HAT\n(D) BUS\nOnly give the best option.\n"
    )


@pytest.mark.parametrize("protocol", ["official", "lmms_eval"])
def test_scores(root: Path, protocol: str) -> None:
    task = mini(root, protocol=protocol)
    assert task.summarize(answer(task, oracle)).headline.value == 100
    assert task.summarize(answer(task, lambda q: f"{q.gold}) because")).headline.value == 100
    constant = task.summarize(answer(task, lambda q: "A"))
    right = dict.fromkeys(PLACES, 0)
    for _, q in questions(task).values():
        right[q.groups["task"][0]] += q.gold == "A"
    assert constant.headline.value == pytest.approx(100 * sum(n / 4 for n in right.values()) / 20)
    assert constant.metric("overall", "task", "counterfactual_inference").n == 4


def test_an_empty_reply_is_right_by_the_one_rule_and_left_out_by_the_other(root: Path) -> None:
    official = mini(root)
    scores = official.summarize(answer(official, lambda q: ""))
    assert (scores.headline.value, scores.metric("strict accuracy").value) == (100, 1.25)
    assert scores.n_invalid == 79  # the question with a single candidate has but one to fit
    lmms_eval = mini(root, protocol="lmms_eval")
    assert lmms_eval.summarize(answer(lmms_eval, lambda q: "nothing")).n_excluded == 0
    empty = lmms_eval.summarize(answer(lmms_eval, lambda q: "" if q.gold != "A" else "A"))
    assert empty.headline.value == 100 and empty.n_excluded == sum(
        q.gold != "A" for _, q in questions(official).values()
    )


@pytest.mark.parametrize(
    ("reply", "letter", "right"),
    [
        ("B) a dog", "B", True),
        ("B", "B", True),
        ("b.", "B", True),
        ("(B) a dog", "B", True),
        ("A", "A", False),
        ("B) a dog\nA) a cat", "B", True),
        ("The answer is B", None, False),
        ("", None, True),
        ("A)(B)", None, True),
    ],
)
def test_first_word(reply: str, letter: str | None, right: bool) -> None:
    grade = FirstWord().grade(Question("q", "?", ("a cat", "a dog", "a cow"), "B"), reply)
    assert (grade.extracted, grade.score, grade.valid) == (letter, float(right), letter is not None)
    assert grade.values["strict"] == float(letter == "B")


@given(st.text())
def test_no_reply_raises(reply: str) -> None:
    grade = FirstWord().grade(Question("q", "?", ("a cat", "a dog"), "B"), reply)
    assert grade.score in (0, 1) and grade.values["strict"] <= grade.score


def test_an_answer_that_is_no_candidate_is_never_right(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    rows = json.loads((copy / "json" / "moving_count.json").read_text())
    rows[0]["answer"] = "nothing of the kind"
    (copy / "json" / "moving_count.json").write_text(json.dumps(rows))
    for protocol in ("official", "lmms_eval"):
        task = at(MVBench(protocol=protocol), copy)
        _, question = questions(task)["moving_count-0"]
        assert question.gold == "nothing of the kind"
        assert [task.grade(question, letter).score for letter in "ABCDE"] == [0.0] * 5


def test_missing_videos_are_an_error_unless_allowed(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    shutil.rmtree(copy / "video" / "nturgbd")  # what the authors may not hand out
    task = at(MVBench(), copy)
    missing = {item.video.path for item in task.items() if not item.video.path.exists()}
    assert missing == {copy / "nturgbd" / "nturgbd_1.mp4"}
    scores = task.summarize(answer(task, lambda q: None if q.groups["task"] == ("fine_grained_pose",) else str(q.gold)))
    assert scores.headline.value == 95 and scores.coverage == pytest.approx(76 / 4000)
    with pytest.raises(DataError, match=r"80 questions below .*, a complete copy has 4000"):
        list(task.items(allow_missing=False))


def test_mistakes_in_the_data_name_file_row_and_column(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no MVBench"):
        list(MVBench().load(tmp_path))
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    (copy / "json" / "vlnqa.json").write_text("[]")
    file = copy / "json" / "action_sequence.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([{**rows[0], "start": "soon"}, *rows[1:]]))
    with pytest.raises(DataError, match=r'action_sequence.json, row 1, column "start": expected seconds, found .soon.'):
        list(MVBench().load(copy))
    file.unlink()
    with pytest.raises(DataError, match=r"expected json/action_sequence.json. Its videos go to"):
        list(MVBench().load(copy))


def test_the_miniature_has_the_same_bytes_every_time(root: Path, tmp_path: Path) -> None:
    MVBench().make_miniature(tmp_path)
    files = [path for path in root.rglob("*") if path.is_file()]
    assert all(file.read_bytes() == (tmp_path / file.relative_to(root)).read_bytes() for file in files)
    assert sum(file.stat().st_size for file in files) < 2_000_000
