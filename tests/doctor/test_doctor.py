"""The doctor on corpora that are really broken: every fault by its kind, in a file, and exit code 1."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from evalkit import CONFIGS
from evalkit.cli.tools import Arguments
from evalkit.config import instantiate
from evalkit.doctor.checks import check_videos
from evalkit.doctor.command import _cores, _progress, doctor
from evalkit.errors import ConfigError, DataError
from evalkit.sources import Mini
from evalkit.types import Composite, Question, Video, VideoQuestions
from evalkit.video.scenes import Scene, film
from evalkit.video.write import write_video
from tests.foreign_logs import jsonl
from tests.helpers import CONF, run_command
from tests.toy import write_toy

TOY = ["task=toy", "plugins=[tests]", "source=local"]


def examine(data: Path, report: Path, *settings: str) -> tuple[int, dict]:
    arguments = [*TOY, f"source.root={data}", f"report={report}", *settings]
    return doctor(Arguments([], arguments, [CONFIGS, CONF])), json.loads(report.read_text())


def kinds(report: dict) -> dict[str, str]:
    """Video -> kind."""
    return {finding["video"]: finding["kind"] for finding in report["findings"]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy") / "data")


@pytest.fixture
def data(whole, tmp_path) -> Path:
    """A copy to be broken."""
    shutil.copytree(whole, tmp_path / "data")
    return tmp_path / "data"


def test_a_whole_benchmark(whole, tmp_path, capsys):
    code, report = examine(whole, tmp_path / "report.json")
    assert (code, report["whole"], report["findings"]) == (0, True, [])
    assert (report["videos"], report["questions"], report["root"]) == (4, 12, str(whole))
    assert "complete: every video opens" in capsys.readouterr().out


def test_every_fault_by_its_kind(data, tmp_path, capsys):
    videos = data / "videos"
    whole_video = (videos / "v0.mp4").read_bytes()
    (videos / "v0.mp4").unlink()
    (videos / "v1.mp4").write_bytes(b"")
    (videos / "v2.mp4").write_text("<html>404</html>")
    (videos / "v3.mp4").write_bytes(whole_video[: len(whole_video) // 2])
    code, report = examine(data, tmp_path / "report.json")
    assert code == 1
    assert kinds(report) == {"v0.mp4": "missing", "v1.mp4": "empty", "v2.mp4": "not_video", "v3.mp4": "damaged"}
    assert not report["whole"]
    assert {finding["questions"] for finding in report["findings"]} == {3}
    said = capsys.readouterr().out
    assert all(f"\n{kind}: 1\n" in said for kind in ("missing", "empty", "not_video", "damaged"))
    assert "12 of 12 questions are about videos with something wrong" in said
    assert str(tmp_path / "report.json") in said


def test_a_video_of_another_length(data, tmp_path):
    frames = film([Scene(0, 9.0, "red")], fps=8, size=(48, 64))
    write_video(data / "videos" / "v1.mp4", frames, fps=8)  # annotated: 3 s
    code, report = examine(data, tmp_path / "report.json")
    assert code == 1
    (finding,) = report["findings"]
    assert (finding["video"], finding["kind"]) == ("v1.mp4", "duration")
    assert "9.0 s long, annotated are 3.0 s" in finding["message"]


def test_a_length_that_is_merely_rounded_is_right(data, tmp_path):
    rows = [json.loads(line) for line in (data / "questions.jsonl").read_text().splitlines()]
    jsonl(data / "questions.jsonl", [{**row, "seconds": row["seconds"] + 1.5} for row in rows])
    assert examine(data, tmp_path / "report.json")[0] == 0


def test_a_short_table(data, tmp_path, capsys):
    lines = (data / "questions.jsonl").read_text().splitlines(keepends=True)
    (data / "questions.jsonl").write_text("".join(lines[:9]))
    code, report = examine(data, tmp_path / "report.json")
    assert code == 1
    assert [(f["kind"], f["message"]) for f in report["findings"]] == [
        ("questions", "9 questions, a complete copy has 12")
    ]
    assert examine(data, tmp_path / "report.json", "task.allow_missing=true")[0] == 0


def test_a_table_with_a_missing_column(data, tmp_path):
    rows = [json.loads(line) for line in (data / "questions.jsonl").read_text().splitlines()]
    jsonl(data / "questions.jsonl", [{k: v for k, v in row.items() if k != "answer"} for row in rows])
    code, report = examine(data, tmp_path / "report.json")
    assert code == 1
    assert 'there is no column "answer"' in report["findings"][0]["message"]
    (data / "questions.jsonl").write_text("{")
    code, report = examine(data, tmp_path / "report.json")
    assert code == 1
    assert "cannot be read" in report["findings"][0]["message"]


def test_each_bad_row_is_a_finding_and_the_other_rows_are_checked(data, tmp_path):
    rows = [json.loads(line) for line in (data / "questions.jsonl").read_text().splitlines()]
    rows[1]["options"], rows[7]["question"] = 3, None
    jsonl(data / "questions.jsonl", rows)
    with (data / "questions.jsonl").open("a") as file:
        file.write("[1, 2]\n{broken\n")
    (data / "videos" / "v3.mp4").write_bytes(b"")
    code, report = examine(data, tmp_path / "report.json")
    assert (code, report["questions"]) == (1, 10)
    assert report["kinds"] == {"row": 4, "questions": 1, "empty": 1}
    said = [finding["message"].partition("questions.jsonl, ")[2] for finding in report["findings"]]
    assert [text.partition(":")[0] for text in said[:4]] == [
        'row 2, column "options"', 'row 8, column "question"', "row 13", "row 14"
    ]  # fmt: skip


def test_many_faults_are_cut_on_the_screen_and_complete_in_the_file(tmp_path, capsys):
    data = write_toy(tmp_path / "data", videos=14, questions=1)
    for video in (data / "videos").iterdir():
        video.write_bytes(b"")
    code, report = examine(data, tmp_path / "report.json", "task.allow_missing=true")
    assert (code, len(report["findings"]), report["kinds"]) == (1, 14, {"empty": 14})
    assert "  ... and 4 more" in capsys.readouterr().out


def item(path: Path, id: str, **more) -> VideoQuestions:
    return VideoQuestions(Video(f"{path.name}/{id}", path, **more), (Question(id, "?"),))


def test_parts_that_are_not_in_their_video(whole):
    path = whole / "videos" / "v3.mp4"  # 5 s
    items = [
        item(path, "inside", start_s=1.0, end_s=4.0),
        item(path, "rounded", start_s=1.0, end_s=5.4),
        item(path, "behind", start_s=6.0, end_s=7.0),
        item(path, "across", start_s=1.0, end_s=20.0),
    ]
    findings = check_videos(items, 1)
    assert [f.kind for f in findings] == ["part", "part"]
    assert "begins at 6.0 s" in findings[0].message and "ends at 20.0 s" in findings[1].message
    assert {f.questions for f in findings} == {4}


def test_the_length_of_a_part_is_not_that_of_the_video(whole):
    part = item(whole / "videos" / "v3.mp4", "part", start_s=1.0, end_s=2.0, duration_s=1.0)
    assert check_videos([part], 1) == []


def test_folders_of_pictures(tmp_path):
    from PIL import Image

    for name in ("good", "torn", "empty"):
        (tmp_path / name).mkdir()
    for number in range(6):
        for name in ("good", "torn"):
            Image.new("RGB", (32, 24), (40 * number, 0, 0)).save(tmp_path / name / f"{number:05}.jpg")
    torn = tmp_path / "torn" / "00005.jpg"
    torn.write_bytes(torn.read_bytes()[:300])
    items = [item(tmp_path / name, name, fps=3.0, duration_s=2.0) for name in ("good", "torn", "empty", "gone")]
    found = {Path(f.path).name: f.kind for f in check_videos(items, 1)}
    assert found == {"torn": "damaged", "empty": "empty", "gone": "missing"}


def test_needles(whole, tmp_path):
    from PIL import Image

    haystack, needle = whole / "videos" / "v3.mp4", tmp_path / "needle.png"
    Image.new("RGB", (32, 24)).save(needle)
    grid = [
        item(haystack, f"{frames}-{depth}", composite=Composite("haystack", frames, needle, depth), duration_s=99.0)
        for frames in (2, 5)
        for depth in (0.0, 1.0)
    ]
    assert check_videos(grid, 1) == []
    long = item(haystack, "long", composite=Composite("haystack", 600, needle, 0.5))
    lost = item(haystack, "lost", composite=Composite("haystack", 5, tmp_path / "lost.png", 0.5))
    findings = check_videos([*grid, long, lost], 1)
    assert [f.kind for f in findings] == ["too_short", "needle"]
    assert "has 5 frames for the haystack, 600 are wanted" in findings[0].message


@pytest.mark.parametrize("name", ["mvbench.MVBench", "niah.NIAH", "longvideobench.LongVideoBench"])
def test_miniatures_are_whole(name):
    task = instantiate({"_target_": f"evalkit.tasks.{name}"}, "task")
    assert check_videos(task.read(Mini().open(task)), 2) == []


def test_a_video_that_one_decoder_cannot_read_is_no_reason_to_fail(data, tmp_path, monkeypatch):
    from evalkit.video.stream import QueuedStream

    monkeypatch.setattr(QueuedStream, "decoder", property(lambda _: "decord 0.6.0 (pyav failed: bad day)"))
    code, report = examine(data, tmp_path / "report.json")
    assert (code, report["whole"], report["kinds"]) == (0, True, {"decoder": 4})


def test_all_cores_are_used_unless_told_otherwise(whole, tmp_path, monkeypatch):
    asked = []

    def check(items, workers, advance):
        asked.append(workers)
        return []

    monkeypatch.setattr("evalkit.doctor.command.check_videos", check)
    examine(whole, tmp_path / "report.json")
    examine(whole, tmp_path / "report.json", "video.workers=3")
    assert asked == [len(os.sched_getaffinity(0)), 3]
    assert _cores() >= 1


def test_progress_is_shown_where_there_is_no_terminal(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with _progress(1000) as advance:
        for _ in range(500):
            now[0] += 0.0625
            advance()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert "checked 161 of 1000 videos" in said[0]


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (["video.workers=many"], ConfigError, "give a number of processes"),
        (["video.backend=decord"], ConfigError, 'there is no setting "video.backend"'),
        (["report=/nowhere/report.json"], DataError, "name another file with report="),
        (["source.root=/nowhere"], DataError, "is not a folder"),
    ],
)
def test_mistakes(settings, error, words, whole, tmp_path):
    arguments = [*TOY, f"source.root={whole}", f"report={tmp_path / 'r.json'}"]
    keys = {setting.partition("=")[0] for setting in settings}
    kept = [a for a in arguments if a.partition("=")[0] not in keys]
    with pytest.raises(error, match=words):
        doctor(Arguments([], [*kept, *settings], [CONFIGS, CONF]))
    with pytest.raises(ConfigError, match="is no setting"):
        doctor(Arguments(["toy"], arguments, [CONFIGS, CONF]))


def test_the_command_as_typed(data, tmp_path):
    (data / "videos" / "v2.mp4").write_bytes(b"")
    report = tmp_path / "report.json"
    done = run_command(*TOY, f"source.root={data}", f"report={report}", module="evalkit.doctor")
    assert done.returncode == 1, done.stderr
    assert "empty: 1" in done.stdout and "Traceback" not in done.stderr
    assert kinds(json.loads(report.read_text())) == {"v2.mp4": "empty"}
