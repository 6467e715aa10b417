"""A run folder loses no answer in a crash, by a second process or on a full disk."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.efficiency import efficiency
from evalkit.errors import RunError
from evalkit.runs import RunFolder, read_lines, read_records, read_run, run_key, slug, to_line
from evalkit.types import Prefill, Question, Record, Video, VideoQuestions

IDENTITY = {"task": {"name": "toy"}, "model": {"id": "m"}}


def record(question: str, score: float | None = 1.0, status: str = "ok", **more) -> Record:
    return Record(
        run="r", task="toy", split="s", protocol="p", model="m", video="v", question=question, unit=question,
        cluster="v", groups={}, gold="A", status=status, reply="A — é\u2028", score=score, **more,
    )  # fmt: skip


def items(*questions: str) -> list[VideoQuestions]:
    return [VideoQuestions(Video("v", Path("v.mp4")), tuple(Question(q, q) for q in questions))]


def open_run(folder):
    return RunFolder(folder, "toy", "m", IDENTITY)


def test_appended_records_are_read_again(tmp_path):
    with open_run(tmp_path) as run:
        for q in "abc":
            run.append(record(q))
    with open_run(tmp_path) as run:
        assert list(run.records) == ["a", "b", "c"]
        assert run.pending(items("a", "b", "c")) == []
        assert [q.id for item in run.pending(items("a", "d", "c", "e")) for q in item.questions] == ["d", "e"]


def test_failed_questions_are_asked_again_and_the_last_try_counts(tmp_path):
    with open_run(tmp_path) as run:
        run.append(record("a", None, "failed", error={"kind": "damaged", "message": "m"}))
        run.append(record("b"))
        assert run.answered() == {"b"}
        run.append(record("a"))
    assert [r.status for r in read_records(run.path)] == ["ok", "ok"]


@given(cut=st.integers(min_value=1, max_value=400))
@settings(max_examples=60, deadline=None)
def test_a_last_line_cut_short_is_dropped_wherever_it_was_cut(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("cut")
    with open_run(folder) as run:
        for q in "ab":
            run.append(record(q))
    path = run.path / "records.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: max(len(whole) - cut, 0)])
    with open_run(folder) as run:
        kept = list(run.records)
        assert kept == ["a", "b"][: len(kept)]
        for q in {"a", "b"} - set(kept):
            run.append(record(q))
        run.settle(["a", "b"])
    assert path.read_bytes() == whole


def test_damage_in_the_middle_is_named(tmp_path):
    with open_run(tmp_path) as run:
        for q in "abc":
            run.append(record(q))
    path = run.path / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\x00\x00\n" + lines[2])
    with pytest.raises(RunError, match=r"line 2 is not a record"), open_run(tmp_path):
        pass


def test_a_second_process_is_refused(tmp_path):
    code = "from evalkit.runs import RunFolder\nfrom pathlib import Path\n"
    code += f"with RunFolder(Path({str(tmp_path)!r}), 'toy', 'm', {IDENTITY!r}): pass"
    with open_run(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert other.returncode == 1
    assert "another process is working on" in other.stderr
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_full_disk_stops_at_once_and_leaves_whole_lines(tmp_path, monkeypatch):
    """Every write to /dev/full fails with 'no space left'; half a line may have been written before."""
    with pytest.raises(RunError, match="the disk is full"), open_run(tmp_path) as run:
        run.append(record("a"))
        descriptor = os.open("/dev/full", os.O_WRONLY)
        os.dup2(descriptor, run._records._file.fileno())
        os.close(descriptor)
        run.append(record("b"))
    records, _, good = read_lines(run.path / "records.jsonl")
    assert [r.question for r in records] == ["a"]
    assert good == (run.path / "records.jsonl").stat().st_size


def test_half_a_line_written_before_the_disk_is_full_is_removed(tmp_path, monkeypatch):
    with open_run(tmp_path) as run:
        run.append(record("a"))
        path = run.path / "records.jsonl"

        def flush_half():
            with path.open("ab") as file:
                file.write(to_line(record("b")).encode()[:50])
            raise OSError(errno.ENOSPC, "No space left on device")

        class Half:
            def __init__(self, file):
                self.file = file

            def __getattr__(self, name):
                return getattr(self.file, name)

            write = staticmethod(lambda text: None)
            flush = staticmethod(flush_half)

        run._records._file = Half(run._records._file)
        with pytest.raises(RunError):
            run.append(record("b"))
    assert [r.question for r in read_records(run.path)] == ["a"]


def test_an_unwritable_folder_is_one_message(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(RunError, match="results cannot be written"), open_run(blocked):
        pass


def test_settle_puts_records_in_task_order_once(tmp_path):
    with open_run(tmp_path) as run:
        for q in ("c", "x", "a", "b", "a"):
            run.append(record(q))
        kept = run.settle(["a", "b", "c"])
    assert [r.question for r in kept] == ["a", "b", "c"]
    assert [r.question for r in read_records(run.path)] == ["a", "b", "c", "x"]
    assert len((run.path / "records.jsonl").read_text(encoding="utf-8").split("\n")) == 5


def test_lines_are_json_without_tricks(tmp_path):
    line = to_line(record("a"))
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert json.loads(line)["reply"] == "A — é\u2028"
    with pytest.raises(ValueError):
        to_line(record("a", float("nan")))


def test_the_key_depends_on_content_not_on_order():
    assert run_key({"a": 1, "b": 2}) == run_key({"b": 2, "a": 1}) != run_key({"a": 1, "b": 3})


@given(st.text())
def test_slugs_are_safe_folder_names(name):
    made = slug(name)
    assert made
    assert "/" not in made
    assert made not in (".", "..")
    assert made.isascii()


def prefill(id: str, video: str = "v", **more) -> Prefill:
    return Prefill(id, video, {"indices": [0, 1], "times_s": [0.0, 1.0]}, seconds={"prefill": 1.0}, **more)


def test_prefills_are_read_with_the_records_that_name_them(tmp_path):
    with open_run(tmp_path) as run:
        run.append(prefill("p1"))
        run.append(record("a", prefill="p1"))
        run.append(prefill("p1"))  # the same video again, after an interruption
        run.append(prefill("p2"))
        run.append(record("b", prefill="p1"))
        run.append(record("c", prefill="p2"))
        run.append(prefill("unused"))
        run.settle(["c", "a", "b"])
    stored = read_run(run.path)
    assert [p.id for p in stored.passes] == ["p2", "p1", "p1"]
    assert [(r.question, r.prefill) for r in stored.records] == [("c", "p2"), ("a", "p1"), ("b", "p1")]
    costs = efficiency(stored.records, stored.passes)
    assert (costs["prefills"], costs["prefill_s"], costs["questions"]) == (3, 3.0, 3)


def test_a_record_does_not_grow_with_the_frames(tmp_path):
    """15 questions on 2,048 frames. Format 1 wrote the frame plan into each record."""
    plan = {"indices": list(range(0, 61440, 30)), "times_s": [i / 1.0 for i in range(2048)], "native_fps": 30.0}
    with open_run(tmp_path) as run:
        run.append(Prefill("p", "v", plan))
        for n in range(15):
            run.append(record(f"q{n}", prefill="p", prompt="x" * 300))
    size = sum((run.path / name).stat().st_size for name in ("records.jsonl", "prefills.jsonl"))
    before = 15 * (len(json.dumps({"sampling": plan})) + 700)
    assert (run.path / "records.jsonl").stat().st_size < before / 20
    assert size < before / 10


def test_what_was_not_measured_is_absent(tmp_path):
    line = to_line(record("a"))
    assert not {"tokens", "seconds", "ttft", "kv_bytes_used", "flops", "details"} & set(json.loads(line))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[1]", "it is a list, not an object"),
        ("null", "it is a NoneType, not an object"),
        ('{"score": NaN}', "it holds NaN"),
        ("[" * 100_000 + "]" * 100_000, "it is nested too deeply"),
        ('{"question": 7}', "question is 7, not text"),
        ('{"run": "r"}', "missing"),
        (to_line(record("a")).replace('"ok"', '"fine"').strip(), "status is 'fine', not one of ok, failed, ungraded"),
        (to_line(record("a")).replace('"score": 1.0', '"score": "1"').strip(), "score is '1', not a number"),
        (to_line(record("a")).replace('"groups": {}', '"groups": {"k": "v"}').strip(), "not lists of texts by name"),
    ],
)
def test_a_line_of_another_shape_is_named_and_the_others_are_read(tmp_path, line, why):
    with open_run(tmp_path) as run:
        for q in "abc":
            run.append(record(q))
    path = run.path / "records.jsonl"
    lines = path.read_text().split("\n")
    path.write_text("\n".join([lines[0], line, *lines[2:]]))
    with pytest.raises(RunError, match=r"records.jsonl, line 2 is not a record") as raised:
        read_records(run.path)
    assert why in str(raised.value)
    stored = read_run(run.path)
    assert [r.question for r in stored.records] == ["a", "c"]
    assert len(stored.problems) == 1 and "line 2" in stored.problems[0]


def test_half_a_surrogate_pair_survives_the_disk(tmp_path):
    with open_run(tmp_path) as run:
        run.append(record("a", note="x\ud83dy"))
    (read,) = read_records(run.path)
    assert read.note == "x\ufffdy" and read.reply == record("a").reply


def test_a_folder_that_is_moved_during_a_run_loses_no_answer(tmp_path):
    with pytest.raises(RunError, match=r"was renamed or removed .* All 2 answers") as raised, open_run(tmp_path) as run:
        run.append(prefill("p"))
        run.append(record("a", prefill="p"))
        run.path.rename(tmp_path / "elsewhere")
        run.append(record("b", prefill="p"))
    rescued = re.search(r"answers are in (\S+)\. Put", str(raised.value))[1]
    assert [r.question for r in read_run(Path(rescued)).records] == ["a", "b"]
    shutil.rmtree(rescued)
