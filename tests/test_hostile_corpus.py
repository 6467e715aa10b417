"""A run over damaged and unusual files: each gives the right frames or failed records, and affects no other file."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest
from PIL import Image

from evalkit import CONFIGS, job
from evalkit.cli.compose import compose
from evalkit.runs import StoredRun, read_run
from evalkit.scoring.grade import Choice
from evalkit.scoring.summary import Mean
from evalkit.task import Protocol, Split, Task
from evalkit.testing import Constant, _ConstantModel
from evalkit.types import Context, Prefill, Question, Record, Video, VideoQuestions
from tests.helpers import CONF, only_run, stable, toy_arguments
from tests.toy import write_toy
from tests.video.corpus import BROKEN, SOUND, Corpus, encode

ASKED = 2
CAUSES = {name: kind for name, (kind, _) in BROKEN.items()} | {
    "folder.mp4": "empty"
}  # of pictures, of which it has none

UNCHECKABLE = {"fragmented.mp4", "hevc_closed.mp4", "hevc_open.mp4", "vp8_hidden.webm"}
UNCHECKABLE |= {"mpeg4.avi", "repeats.avi", "transport.ts", "bare.h264", "mjpeg.avi"}
"""Files without checksums whose decoder does not notice all damage, or that do not say how long they are."""


@dataclass
class Files(Task):
    """Every file of a folder, with two questions each."""

    split: str = "all"
    only: tuple[str, ...] = ()

    name = "files"
    benchmark = "Files"
    splits: ClassVar = {"all": Split()}
    protocols: ClassVar = {
        "official": Protocol(
            "tests", lambda item, question, plan: question.text, Choice("lmms_eval"), (Mean("accuracy"),)
        )
    }

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        for name in self.only:
            questions = tuple(Question(f"{name} {q}", "How bright is it?", gold="A") for q in range(ASKED))
            yield VideoQuestions(Video(name, root / name), questions)


def run(task: Task, data: Path, results: Path, *more: str, model: Constant | None = None) -> tuple[int, StoredRun]:
    """The exit code of one run, and its folder."""
    plan = job.plan(compose(toy_arguments(data, results, *more), [CONFIGS, CONF]), "constant")
    code = job.run(replace(plan, task=task, model=model or plan.model))
    return code, read_run(only_run(results))


def prefill_of(run: StoredRun, record: Record) -> Prefill:
    return run.prefills[record.prefill or ""]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))


def brightness(frames: list[np.ndarray]) -> float:
    small = [Image.fromarray(frame).resize((32, 32), Image.Resampling.BICUBIC) for frame in frames]
    return float(np.mean([np.asarray(image).mean() for image in small]))


def test_every_file_gives_right_frames_or_a_marked_record(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (*SOUND, *BROKEN)
    assert len(names) >= 40 and len(BROKEN) >= 14
    for name in names:
        assert corpus[name]  # made
    task = Files(only=names, allow_missing=True)
    code, made = run(task, corpus.folder, tmp_path, "model.reply=brightness", "model.frames=16", "video.workers=2")
    said = capsys.readouterr().err
    assert code == 3
    assert [r.question for r in made.records] == [f"{name} {q}" for name in names for q in range(ASKED)]
    for record in made.records:
        if record.video in SOUND:
            assert record.status == "ok", record.error
            prefill = prefill_of(made, record)
            frames = corpus.frames(record.video)
            seen = [frames[i] for i in prefill.plan["indices"]]
            assert record.reply == f"{brightness(seen):.3f}", record.video
            assert prefill.file and prefill.file["bytes"] == corpus[record.video].stat().st_size
            uncheckable = record.video in UNCHECKABLE
            assert any("cannot be checked" in remark for remark in record.remarks) == uncheckable, record.video
        else:
            assert (record.status, record.reply, record.score, record.valid) == ("failed", None, None, False)
            assert record.error is not None and record.error["kind"] == CAUSES[record.video], record.error
            assert str(corpus.folder / record.video) in record.error["message"]
    share = f"{100 * len(SOUND) / len(names):.1f}%"
    assert f"below coverage: {share}" in said
    assert share in next(line for line in said.splitlines() if "accuracy" in line)
    assert "Traceback" not in said and "warning" not in said


def test_broken_videos_count_as_wrong_and_are_not_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_toy(tmp_path / "data", videos=10, questions=3)
    task_words = ["task.allow_missing=true"]
    code = job.run(job.plan(compose(toy_arguments(data, tmp_path / "whole", *task_words), [CONFIGS, CONF]), "constant"))
    assert code == 0
    whole = stable(only_run(tmp_path / "whole") / "records.jsonl")
    (data / "videos" / "v4.mp4").write_bytes((data / "videos" / "v4.mp4").read_bytes()[:300])
    capsys.readouterr()
    code = job.run(job.plan(compose(toy_arguments(data, tmp_path / "r", *task_words), [CONFIGS, CONF]), "constant"))
    assert code == 3
    rows = stable(only_run(tmp_path / "r") / "records.jsonl")
    assert [row for row in rows if row["video"] != "v4.mp4"] == [
        {**row, "run": rows[0]["run"]} for row in whole if row["video"] != "v4.mp4"
    ]
    right = sum(row["score"] for row in whole if row["video"] != "v4.mp4")
    scores = json.loads((only_run(tmp_path / "r") / "summary.json").read_text())["scores"]
    assert scores["coverage"] == pytest.approx(0.9)
    assert scores["headline"]["value"] == pytest.approx(100 * right / 30)  # wrong, not left out and not guessed
    assert scores["headline"]["answered"] == pytest.approx(100 * right / 27)
    said = capsys.readouterr().err
    line = next(line for line in said.splitlines() if line.lstrip(" │┃|").startswith("accuracy"))
    assert f"{100 * right / 30:.2f}" in line and f"{100 * right / 27:.2f}" in line and "90.0%" in line


@dataclass
class Saboteur(Constant):
    """Sends the signal `sign` to all decoding processes at each of the first `times` frames of the video `victim`."""

    victim: str = ""
    sign: int = int(signal.SIGKILL)
    times: int = 1

    def build(self) -> _ConstantModel:
        return _SaboteurModel(self)


class _SaboteurModel(_ConstantModel):
    def prefill(self, context: Context):
        if context.video.id == self.settings.victim:
            context.frames.batches = self.disturbed(context.frames.batches)
        return super().prefill(context)

    def disturbed(self, batches):
        def one_by_one(size: int) -> Iterator[np.ndarray]:
            for number, frame in enumerate(batches(1)):
                if number < self.settings.times:
                    for child in psutil.Process().children():
                        with suppress(psutil.Error, ProcessLookupError):  # one that is ending just now
                            if child.cmdline()[1:3] == ["-m", "evalkit.video.process_main"]:
                                os.kill(child.pid, self.settings.sign)
                yield frame

        return one_by_one


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("three")
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        encode(folder / name, count=40, size=(480, 640), options={"preset": "ultrafast", "g": "10"})
    return folder


NAMES = ("a.mp4", "b.mp4", "c.mp4")
SMALL_QUEUE = ("video.workers=1", "video.queue_mb=2")  # less than two frames of 512 x 512: decoding waits for the model
LOOK = {"reply": "brightness", "frames": 12, "size": 512}


@pytest.mark.parametrize(
    ("sign", "cause"), [(signal.SIGKILL, "killed by signal 9"), (signal.SIGSTOP, "no progress in 4 s")]
)
def test_a_decoder_that_dies_or_hangs_is_replaced_once_and_named(
    three: Path, tmp_path: Path, sign: signal.Signals, cause: str
) -> None:
    words = (*SMALL_QUEUE, "video.timeout_s=4")
    task = Files(only=NAMES)
    code, calm = run(task, three, tmp_path / "calm", *words, model=Constant(**LOOK))
    assert code == 0
    began = time.monotonic()
    code, made = run(task, three, tmp_path / "r", *words, model=Saboteur(**LOOK, victim="b.mp4", sign=int(sign)))
    assert time.monotonic() - began < 60
    assert code == 0
    assert [r.reply for r in made.records] == [r.reply for r in calm.records]
    for record in made.records:
        decoder = prefill_of(made, record).decoder
        if record.video == "b.mp4":
            assert decoder.startswith("pyav ") and decoder.count("failed") == 1 and cause in decoder
        else:
            assert decoder.startswith("pyav ") and "failed" not in decoder


def test_a_video_that_kills_every_decoder_fails_alone(three: Path, tmp_path: Path) -> None:
    model = Saboteur(**LOOK | {"frames": 40}, victim="b.mp4", times=99)
    code, made = run(Files(only=NAMES), three, tmp_path, *SMALL_QUEUE, model=model)
    assert code == 3
    assert [r.status for r in made.records] == ["ok", "ok", "failed", "failed", "ok", "ok"]
    error = made.records[2].error
    assert error is not None and error["kind"] == "decoder_crash"
    assert error["message"].count("pyav failed") == 2 and "decord failed" in error["message"]
    assert prefill_of(made, made.records[5]).decoder.startswith("pyav ")
