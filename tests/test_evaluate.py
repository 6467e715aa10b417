"""The evaluation loop: one prefill a video, one record a question; a failure affects only its own questions."""

import json
import shutil

import pytest

from evalkit.errors import DataError, RunError
from tests.helpers import only_run, run_here, stable, toy_arguments
from tests.toy import write_toy


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def own_data(toy_data, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(toy_data, tmp_path / "data")


def test_every_question_becomes_a_graded_record(toy_data, tmp_path):
    assert run_here(toy_arguments(toy_data, tmp_path)) == 0
    rows = stable(only_run(tmp_path) / "records.jsonl")
    assert [row["question"] for row in rows] == [f"v{v}-{q}" for v in range(4) for q in range(3)]
    assert [row["score"] for row in rows] == [float(row["gold"] == "A") for row in rows]
    assert {row["video"] for row in rows} == {f"v{v}.mp4" for v in range(4)}
    assert all(len(row["sampling"]["plan"]["indices"]) == 4 and row["status"] == "ok" for row in rows)
    assert rows[0]["prompt"].startswith("Which colour is shown (0)?\nA. red")


def test_scores_name_protocol_n_coverage_and_interval(toy_data, tmp_path):
    run_here(toy_arguments(toy_data, tmp_path))
    summary = json.loads((only_run(tmp_path) / "summary.json").read_text())
    scores = summary["scores"]
    # Gold letters run A B C, B C D, C D A, D A B: A is right 3 times in 12; "first" 1 in 4, "later" 2 in 8.
    assert scores["headline"]["value"] == pytest.approx(25.0)
    assert (scores["n"], scores["coverage"], scores["protocol"]) == (12, 1.0, "official")
    assert scores["headline"]["low"] < 25 < scores["headline"]["high"]
    assert (only_run(tmp_path) / "scores.csv").exists()
    assert (tmp_path / "scores.csv").read_text().startswith("task,benchmark,split,protocol,model,key")
    assert len((tmp_path / "efficiency.csv").read_text().splitlines()) == 2


def test_answers_depend_on_the_frames(toy_data, tmp_path):
    run_here(toy_arguments(toy_data, tmp_path, "model.reply=brightness"))
    replies = {row["video"]: row["reply"] for row in stable(only_run(tmp_path) / "records.jsonl")}
    assert len(set(replies.values())) == 4
    assert max(replies, key=lambda v: float(replies[v])) == "v3.mp4"  # the white one


def test_the_same_command_asks_nothing_again(toy_data, tmp_path, monkeypatch):
    run_here(toy_arguments(toy_data, tmp_path))
    before = (only_run(tmp_path) / "records.jsonl").read_bytes()
    monkeypatch.setattr("evalkit.executors.base.ModelWorker.__init__", lambda *a: pytest.fail("a model was built"))
    assert run_here(toy_arguments(toy_data, tmp_path)) == 0
    assert (only_run(tmp_path) / "records.jsonl").read_bytes() == before


def test_a_larger_limit_continues_the_same_run(toy_data, tmp_path):
    assert run_here(toy_arguments(toy_data, tmp_path, "limit=4")) == 0
    assert len(stable(only_run(tmp_path) / "records.jsonl")) == 4
    assert run_here(toy_arguments(toy_data, tmp_path)) == 0
    assert len(stable(only_run(tmp_path) / "records.jsonl")) == 12


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_broken_video_fails_its_own_questions_only(own_data, tmp_path, content):
    (own_data / "videos" / "v1.mp4").write_bytes(content)
    assert run_here(toy_arguments(own_data, tmp_path / "r")) == 3
    rows = stable(only_run(tmp_path / "r") / "records.jsonl")
    failed = [row for row in rows if row["status"] == "failed"]
    assert [row["video"] for row in failed] == ["v1.mp4"] * 3
    assert all(
        row["reply"] is None and row["score"] is None and row["error"]["kind"] in ("empty", "not_video")
        for row in failed
    )
    scores = json.loads((only_run(tmp_path / "r") / "summary.json").read_text())["scores"]
    assert scores["coverage"] == 0.75
    assert scores["headline"]["value"] == pytest.approx(100 * 3 / 12)  # a failed question is not right
    assert scores["headline"]["answered"] == pytest.approx(100 * 3 / 9)


def test_a_repaired_video_is_asked_again(own_data, toy_data, tmp_path):
    (own_data / "videos" / "v1.mp4").write_bytes(b"")
    arguments = toy_arguments(own_data, tmp_path / "r")
    assert run_here(arguments) == 3
    shutil.copy(toy_data / "videos" / "v1.mp4", own_data / "videos" / "v1.mp4")
    assert run_here(arguments) == 0
    run_here(toy_arguments(toy_data, tmp_path / "whole"))
    whole, mended = (stable(only_run(tmp_path / name) / "records.jsonl") for name in ("whole", "r"))
    assert whole == mended


def test_a_question_that_the_model_cannot_answer_fails_alone(toy_data, tmp_path):
    assert run_here(toy_arguments(toy_data, tmp_path, "model.fail_on=v2-1")) == 3
    rows = stable(only_run(tmp_path) / "records.jsonl")
    assert [row["question"] for row in rows if row["status"] == "failed"] == ["v2-1"]
    assert run_here(toy_arguments(toy_data, tmp_path, "model.fail_on=v2-1", "min_coverage=0.9")) == 0


def test_short_data_is_an_error_unless_allowed(own_data, tmp_path):
    lines = (own_data / "questions.jsonl").read_text().splitlines(keepends=True)
    (own_data / "questions.jsonl").write_text("".join(lines[:6]))
    with pytest.raises(DataError, match=r"6 questions .* a complete copy has 12"):
        run_here(toy_arguments(own_data, tmp_path / "r"))
    assert run_here(toy_arguments(own_data, tmp_path / "r", "task.allow_missing=true")) == 3  # coverage is 6 of 12
    scores = json.loads((only_run(tmp_path / "r") / "summary.json").read_text())["scores"]
    assert (scores["coverage"], scores["n"]) == (0.5, 6)


def test_a_missing_video_is_named_before_the_run(own_data, tmp_path):
    (own_data / "videos" / "v3.mp4").unlink()
    with pytest.raises(DataError, match=r"1 of 4 videos are missing:\n .*v3.mp4"):
        run_here(toy_arguments(own_data, tmp_path / "r"))
    assert run_here(toy_arguments(own_data, tmp_path / "r", "task.allow_missing=true")) == 3
    rows = stable(only_run(tmp_path / "r") / "records.jsonl")
    assert {row["error"]["kind"] for row in rows if row["status"] == "failed"} == {"missing"}


def test_other_questions_under_the_same_names_need_force(own_data, tmp_path):
    arguments = toy_arguments(own_data, tmp_path / "r", "limit=6")
    run_here(arguments)
    path = own_data / "questions.jsonl"
    path.write_text(path.read_text().replace("Which colour is shown (1)", "What colour is shown (1)"))
    with pytest.raises(RunError, match=r"begun with other questions \(v0-1, v1-1\)"):
        run_here(arguments)
    assert run_here([*arguments, "resume=force", f"model.question_log={tmp_path / 'asked'}"]) == 0
    assert (tmp_path / "asked").read_text().split() == ["v0-1", "v1-1"]  # asked again, and nothing else
    manifest = json.loads((only_run(tmp_path / "r") / "manifest.json").read_text())
    assert len(manifest["history"]) == 1
    prompts = {row["question"]: row["prompt"] for row in stable(only_run(tmp_path / "r") / "records.jsonl")}
    assert prompts["v0-1"].startswith("What colour")
    assert run_here(arguments) == 0


def test_another_gold_under_the_same_name_is_noticed_in_a_finished_run(own_data, tmp_path):
    arguments = toy_arguments(own_data, tmp_path / "r")
    run_here(arguments)
    path = own_data / "questions.jsonl"
    path.write_text(path.read_text().replace('"answer": "A"', '"answer": "B"'))
    with pytest.raises(RunError, match="begun with other questions"):
        run_here(arguments)


def test_a_limit_keeps_units_whole_and_removes_no_answer(toy_data, tmp_path):
    from evalkit.job import limited
    from evalkit.types import Question, Video, VideoQuestions

    questions = tuple(Question(str(n), "t", unit=f"u{n // 4}") for n in range(12))
    items = [VideoQuestions(Video("v", toy_data), questions)]
    assert [q.id for item in limited(items, 5) for q in item.questions] == [str(n) for n in range(8)]
    assert [q.id for c in limited(items, 1, {"9"}) for q in c.questions] == ["0", "1", "2", "3", "8", "9", "10", "11"]
    run_here(toy_arguments(toy_data, tmp_path))
    run_here(toy_arguments(toy_data, tmp_path, "limit=2"))
    assert json.loads((only_run(tmp_path) / "summary.json").read_text())["scores"]["n"] == 12


def test_settings_that_cannot_change_an_answer_share_a_run(toy_data, tmp_path):
    run_here(toy_arguments(toy_data, tmp_path, "video.workers=1"))
    run_here(toy_arguments(toy_data, tmp_path, "video.workers=2", "video.queue_mb=64"))
    only_run(tmp_path)
    run_here(toy_arguments(toy_data, tmp_path, "model.frames=2"))
    run_here(toy_arguments(toy_data, tmp_path, "task.protocol=strict"))
    assert len(list(tmp_path.glob("*/*/*/records.jsonl"))) == 3


def test_a_tracker_that_fails_does_not_stop_the_run(toy_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "evalkit.trackers.csv.rebuild_tables", lambda results: (_ for _ in ()).throw(OSError("disk full"))
    )
    assert run_here(toy_arguments(toy_data, tmp_path)) == 0
    said = capsys.readouterr().err
    assert "warning: Csv stopped: disk full" in said
    assert "python -m evalkit.report" in said
    assert len(stable(only_run(tmp_path) / "records.jsonl")) == 12


def test_a_limit_that_leaves_nothing_out_is_none(toy_data, tmp_path):
    """A limit on a finished run changes nothing: it stays complete, is ranked, and can be rescored."""
    assert run_here(toy_arguments(toy_data, tmp_path)) == 0
    before = (only_run(tmp_path) / "scores.csv").read_bytes()
    assert run_here(toy_arguments(toy_data, tmp_path, "limit=2")) == 0
    run = only_run(tmp_path)
    assert json.loads((run / "manifest.json").read_text())["limit"] is None
    assert json.loads((run / "summary.json").read_text())["remarks"] == []
    assert (run / "scores.csv").read_bytes() == before


def test_an_answer_that_was_cut_short_is_reported_and_asked_again(toy_data, tmp_path, capsys):
    assert run_here(toy_arguments(toy_data, tmp_path)) == 0
    records = only_run(tmp_path) / "records.jsonl"
    whole = stable(records)
    records.write_bytes(records.read_bytes()[:-20])
    capsys.readouterr()
    assert run_here(toy_arguments(toy_data, tmp_path)) == 0
    assert "the last answer was cut short" in capsys.readouterr().err
    assert stable(records) == whole
