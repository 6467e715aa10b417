"""The needle test: four layouts, a grid in which the needle is really seen, the control that cannot see it, and real
needle answers scored as their authors scored them."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evalkit.errors import ConfigError, DataError
from evalkit.tasks._mini.niah import NEEDLES
from evalkit.tasks.niah import CONTROL, NIAH, Begins
from evalkit.types import FrameRequest, Question, Record, Video, VideoQuestions
from evalkit.video.reader import FrameReader
from evalkit.video.resize import FixedSize
from evalkit.video.scenes import nearest_colour
from evalkit.video.settings import VideoSettings
from tests.replay import REPLAY, needs_replay

from .answers import PLAN, answer, at, complete, made, prompts, questions, record, write_parquet

COLOURS = {Path(file).stem: colour for file, colour, _, _, _ in NEEDLES}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("niah")
    NIAH().make_miniature(folder)
    return folder


def mini(root: Path, **settings: Any) -> Any:
    return made(NIAH(**settings), root)


def seen_by(reader: FrameReader, task: NIAH, request: FrameRequest) -> list[Record]:
    """The grid answered by looking: the needle's answer where its colour is on one frame, 'nothing' elsewhere."""
    records = []
    for item in task.items():
        stream = reader.open(item.video, request)
        assert item.video.composite is not None
        assert (
            0 <= len(stream.plan) - item.video.composite.frames - bool(item.video.composite.image) < request.multiple_of
        )
        assert len(stream.plan) % request.multiple_of == 0
        colours = [nearest_colour(frame[:6]) for batch in stream.batches(8) for frame in batch]
        for question in item.questions:
            colour = COLOURS[question.groups["question"][0]]
            assert colours.count(colour) == (question.groups["needle"] == ("inserted",))
            if colour in colours:
                at_index = int(item.video.composite.depth * (len(colours) - 1))
                assert colours.index(colour) == at_index
            records.append(record(task, item, question, str(question.gold) if colour in colours else "nothing"))
    return records


@pytest.mark.parametrize("multiple_of", [1, 4])
def test_who_sees_the_needle_scores_100_and_0_without_it(root: Path, multiple_of: int) -> None:
    task = mini(root, frames=[4, 13, 60], depths=[0.0, 0.3, 1.0])
    request = FrameRequest("video_xl_2", 8, multiple_of=multiple_of, resize=FixedSize(24, 32))
    with FrameReader(VideoSettings(workers=1)) as reader:
        records = seen_by(reader, task, request)
    assert len(records) == 3 * 3 * 5 + 3 * 5
    scores = task.summarize(records)
    assert scores.headline.value == 100 and scores.metric(CONTROL).value == 0
    assert task.submission(records) == {
        "heatmap.csv": "depth,4,13,60\n0,100,100,100\n0.3,100,100,100\n1,100,100,100\nno needle,0,0,0\n"
    }


def test_the_grid_is_the_papers(root: Path, tmp_path: Path) -> None:
    published = tmp_path / "published"
    published.mkdir()
    for name in ("data", "needle_datasets"):  # without the miniature's grid.json
        (published / name).symlink_to(root / name)
    task = at(NIAH(), published)
    cells = {(q.groups["frames"][0], q.groups["depth"][0]) for _, q in questions(task).values()}
    assert len(cells) == 15 * 6 + 15 and ("3000", "0.4") in cells and ("200", CONTROL) in cells
    assert len(questions(task)) == 15 * 7 * 5
    assert len(list(at(NIAH(control=False), published).items())) == 15 * 6 * 5
    flash = NIAH(protocol="videochat_flash").grid(tmp_path)
    assert (flash.frames[0], flash.frames[-1], len(flash.frames), flash.rule) == (1000, 10000, 10, "haystack")
    video_xl = NIAH(protocol="video_xl").grid(tmp_path)
    assert video_xl.frames[:3] == (1, 187, 373) and video_xl.depths == (0, 0.25, 0.5, 0.75, 1)
    assert video_xl.rule == "uniform"
    assert NIAH().grid(root).frames == (4, 8, 16, 32)


def test_controls_of_a_column_share_one_prefill(root: Path) -> None:
    items = list(mini(root).items())
    controls = [item for item in items if item.video.composite and item.video.composite.image is None]
    assert [len(item.questions) for item in controls] == [5] * 4
    assert all(len(item.questions) == 1 for item in items if item not in controls)
    assert len(items) == 4 * 3 * 5 + 4
    assert {item.cluster for item in items if item not in controls} == set(COLOURS)


def test_intervals_are_clustered_by_needle(root: Path) -> None:
    task = mini(root)
    records = answer(task, lambda q: "?" if q.groups["question"] == ("cat",) else str(q.gold))
    headline = task.summarize(records).headline
    assert headline.value == pytest.approx(80) and headline.clusters == 5
    assert headline.low is not None and headline.low < 60 and headline.high > 95


def test_marginals_and_cells(root: Path) -> None:
    task = mini(root)
    scores = task.summarize(
        answer(task, lambda q: str(q.gold) if q.groups["depth"] == ("0",) or q.groups["frames"] == ("4",) else "?")
    )
    assert scores.metric("accuracy", "depth", "0").value == 100
    assert scores.metric("accuracy", "depth", "1").value == 25
    assert scores.metric("accuracy", "frames", "4").value == 100
    assert scores.metric("accuracy", "frames", "32").value == pytest.approx(100 / 3)
    assert scores.metric("accuracy", "cell", "16 frames, 0.5").value == 0
    assert scores.headline.value == pytest.approx(50)  # 6 of 12 cells
    assert scores.metric(CONTROL, "frames", "4").value == 100 and scores.metric(CONTROL, "frames", "8").value == 0


def test_prompts(root: Path, tmp_path: Path) -> None:
    assert prompts(mini(root))["4-0-sun"] == (
        "\nFind the frame of the sun. What is its colour?\nAnswer the question using a single word or phrase."
    )
    copy = video_xl_copy(root, tmp_path)
    task = at(NIAH(protocol="video_xl", frames=[8], depths=[0.5]), copy)
    assert prompts(task)["8-0.5-cat"] == (
        "Question: Question: Which colour has the cat? Response the correct choice only.\nOptions:(A) red\n(B) pink\n"
        "(C) blue\n(D) gray\nChoose the best option.\nAnswer: "
    )
    item, question = questions(task)["8-0.5-cat"]
    assert task.prompt(item, question, PLAN).answer_prefix == "Best option:("


def video_xl_copy(root: Path, to: Path) -> Path:
    """The layout of Video-XL's repository, with two needles."""
    shutil.copytree(root / "needle_datasets" / "images", to / "needles")
    (to / "qa").mkdir()
    asked = "Question: Which colour has the {}? Response the correct choice only.\nOptions:(A) red\n(B) pink\n"
    asked += "(C) blue\n(D) gray\nChoose the best option."
    content = {
        "retrieval_question": [asked.format("cat"), asked.format("owl")],
        "answer": ["B", "D"],
        "needle": ["cat.png", "owl.png"],
    }
    (to / "qa" / "qa.json").write_text(json.dumps(content))
    shutil.copy(root / "data" / "haystack_videos" / "movie.mp4", to / "haystack.mp4")
    return to


def test_the_hub_table_gives_the_same_needles(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures inside the table, as the hub stores them; they are kept in the cache, once."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    rows = json.loads((root / "needle_datasets" / "dataset.json").read_text())
    images = [root / "needle_datasets" / "images" / row["path"] for row in rows]
    table = [
        {"image": {"bytes": image.read_bytes(), "path": image.name}, "question": row["prompt"], "answer": row["answer"]}
        for image, row in zip(images, rows, strict=True)
    ]
    copy = tmp_path / "copy"
    write_parquet(copy / "data" / "test-00000-of-00001.parquet", table)
    shutil.copy(root / "data" / "haystack_videos" / "movie.mp4", copy / "haystack.mp4")
    theirs = list(at(NIAH(frames=[8], depths=[0.5]), copy).items())
    ours = list(mini(root, frames=[8], depths=[0.5]).items())
    for item, mine in zip(theirs, ours, strict=True):
        assert [(q.text, q.gold) for q in item.questions] == [(q.text, q.gold) for q in mine.questions]
        if mine.video.composite and mine.video.composite.image:
            assert item.video.composite and item.video.composite.image
            with Image.open(item.video.composite.image) as a, Image.open(mine.video.composite.image) as b:
                assert a.convert("RGB").tobytes() == b.convert("RGB").tobytes()
    assert len(list((tmp_path / "cache" / "needles").iterdir())) == 5


def test_videochat_flash_needles(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "needle_datasets" / "images", tmp_path / "single")
    row = {
        "question": "Find the frame of a cat.\nOptions: (A) red\n(B) pink\nOnly give the best option. Best option: ("
    }
    rows = [{**row, "answer": "B", "image": "single/cat.png", "id": 0}]
    (tmp_path / "niah-coco-singlehop_20.json").write_text(json.dumps(rows))
    shutil.copy(root / "data" / "haystack_videos" / "movie.mp4", tmp_path / "haystack.mkv")
    task = at(NIAH(protocol="videochat_flash", frames=[8], depths=[0.2]), tmp_path)
    item, question = questions(task)["8-0.2-needle0"]
    assert item.video.composite is not None and item.video.composite.rule == "haystack"
    assert task.prompt(item, question, PLAN).text.endswith("Best option: (")
    assert [task.grade(question, reply).score for reply in ("B) pink", "(b) pink", "b", "A) red", "")] == [
        1,
        1,
        1,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("gold", "reply", "score", "tolerant"),
    [
        ("B", "B", 1, 1),
        ("B", "B. University of california", 1, 1),
        ("B", "Both", 0, 0),
        ("B", "b", 0, 1),
        ("B", "The answer is B.", 0, 1),
        ("Yellow", "Yellow.", 1, 1),
        ("Yellow", "yellow", 0, 1),
        ("Yellow", "The balloon is yellow.", 0, 1),
        ("Yellow", "Yellowish", 0, 0),
        ("200", "200mg", 1, 1),
        ("200", "200 mg", 1, 1),
        ("200", "2000", 0, 0),
        ("200", "It is 200.", 0, 1),
        ("C", "", 0, 0),
    ],
)
def test_begins(gold: str, reply: str, score: int, tolerant: int) -> None:
    grade = Begins().grade(Question("q", "?", gold=gold), reply)
    assert (grade.score, grade.values["tolerant"]) == (score, tolerant)
    assert grade.valid == bool(reply)


@given(st.text(), st.sampled_from(["B", "Yellow", "200"]), st.booleans())
def test_no_reply_raises(reply: str, gold: str, loose: bool) -> None:
    grade = Begins(loose).grade(Question("q", "?", gold=gold), reply)
    assert grade.score in (0, 1) and grade.values["tolerant"] >= grade.score


def read_lines(name: str) -> list[dict[str, Any]]:
    with gzip.open(REPLAY / "niah" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@needs_replay
def test_real_needle_answers_score_as_their_authors_scored_them() -> None:
    """216 answers of Video-XL, its two-level version and LongVA in 54 cells, by this task's grader and summary."""
    task = NIAH(protocol="video_xl")
    answers, cells = read_lines("needle_answers"), read_lines("needle_cells")
    assert len(answers) == 216 and len(cells) == 54
    by_log: dict[str, list[Record]] = defaultdict(list)
    for number, row in enumerate(answers):
        groups = {
            "frames": (str(row["frames"]),),
            "depth": (f"{row['depth']:g}",),
            "cell": (f"{row['frames']} frames, {row['depth']:g}",),
            "needle": ("inserted",),
        }
        question = Question(str(number), "", gold=row["answer"], groups=groups)
        item = VideoQuestions(Video("movie", Path("movie.mp4")), (question,), cluster=str(number % 4))
        by_log[f"{row['log']}/{row['ratio']}"].append(record(task, item, question, row["output"]))
    assert all(made.valid for records in by_log.values() for made in records)
    scores = {log: task.summarize(records) for log, records in by_log.items()}
    for cell in cells:
        row = scores[f"{cell['log']}/{cell['ratio']}"].metric(
            "accuracy", "cell", f"{cell['frames']} frames, {cell['depth']:g}"
        )
        assert row.value == 100 * cell["score"] and row.n == 4
    for log, summary in scores.items():
        mine = [cell["score"] for cell in cells if f"{cell['log']}/{cell['ratio']}" == log]
        assert summary.headline.value == pytest.approx(100 * sum(mine) / len(mine))


def test_mistakes_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no needles: expected"):
        list(at(NIAH(), tmp_path).items())
    copy = video_xl_copy(root, tmp_path)
    (copy / "haystack.mp4").unlink()
    with pytest.raises(DataError, match=r"holds no haystack: save a video of at least 8 s as .*haystack.mp4"):
        list(at(NIAH(frames=[8]), copy).items())
    assert list(at(NIAH(frames=[8], haystack=str(root / "data/haystack_videos/movie.mp4")), copy).items())
    for name in ("haystack.mp4", "haystack_2.mkv"):
        shutil.copy(root / "data" / "haystack_videos" / "movie.mp4", copy / name)
    with pytest.raises(DataError, match=r"several haystacks \(haystack.mp4, haystack_2.mkv\)"):
        list(at(NIAH(), copy).items())
    (copy / "haystack_2.mkv").unlink()
    (copy / "needles" / "owl.png").unlink()
    with pytest.raises(DataError, match=r"qa.json: 1 of 2 needles have no picture, .*owl.png"):
        list(at(NIAH(), copy).items())
    (copy / "qa" / "qa.json").write_text('{"needle": ["cat.png"], "answer": []}')
    with pytest.raises(DataError, match=r"qa.json: expected the lists needle, retrieval_question and answer"):
        list(at(NIAH(), copy).items())
    with pytest.raises(DataError, match=r'protocol=video_xl reads option letters, and there are answers like "Yellow"'):
        list(mini(root, protocol="video_xl").items())
    missing = complete(NIAH(haystack=str(tmp_path / "gone.mp4"), frames=[8], depths=[0.5]), root)
    with pytest.raises(DataError, match=r"1 of 1 videos are missing:\n  .*gone.mp4"):
        list(missing.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": [0]}, r"task.frames has 0"),
        ({"frames": []}, r"task.frames is empty"),
        ({"depths": [0.5, 1.5]}, r"task.depths has 1.5"),
        ({"depths": [0.5, 0.5]}, r"task.depths names a value twice"),
        ({"protocol": "video_xl_2"}, r'Did you mean "video_xl"'),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NIAH(**settings)
