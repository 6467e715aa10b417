"""Other harnesses' logs: every reply reaches the question it was given to, whatever the log calls it, and no other."""

import csv
import gzip
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from evalkit import CONFIGS
from evalkit.config import instantiate
from evalkit.errors import ConfigError, DataError
from evalkit.import_log import import_log
from evalkit.joins import Joiner
from evalkit.logs import Logged, read_log
from evalkit.runs import read_records
from evalkit.sayings import Saying, same_gold
from evalkit.sources import Mini
from evalkit.tasks.lvbench import LVBench
from evalkit.tools import Arguments
from evalkit.types import Clip, Question, Video
from tests.helpers import ROOT, only_run, run_command

Row = dict[str, Any]
REPLAY = Path(os.environ.get("EVALKIT_REPLAY", ROOT.parent / "shared" / "replay"))
SETTINGS = ("pure", "w_chunk", "w_chunk_bilevel")
needs_replay = pytest.mark.skipif(
    not REPLAY.is_dir(), reason=f"the real answers are not at {REPLAY}: set EVALKIT_REPLAY to their folder"
)


def run(files: Path | list[Path], results: Path, *settings: str) -> Path:
    """Import in this process; the run folder."""
    names = [str(file) for file in (files if isinstance(files, list) else [files])]
    assert import_log(Arguments(names, [*settings, f"results={results}"], [CONFIGS])) in (0, 3)
    return only_run(results)


def jsonl(path: Path, rows: list[Row]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def tsv(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def xlsx(path: Path, rows: list[Row]) -> Path:
    book = Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append([value if isinstance(value, int | float) else str(value) for value in row.values()])
    book.save(path)
    return path


# The real answers of Video-XL-2 on LVBench --------------------------------------------------------------------------


def read_gz(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def flat() -> list[Row]:
    return read_gz(REPLAY / "lvbench/annotations/lvbench_flat.jsonl.gz")


def answers(setting: str) -> dict[str, str]:
    return {row["question_id"]: row["output"] for row in read_gz(REPLAY / f"lvbench/predictions/{setting}.jsonl.gz")}


def fork_doc(row: Row) -> Row:
    """A row as the copy of LVBench has it that Video-XL-2's own code reads: without id, with letters twice."""
    text, *options = row["question"].split("\n(")
    candidates = [f"({option}" for option in options]
    keys = {key: row[key] for key in ("type", "question_type", "time_reference")}
    gold = candidates["ABCD".index(row["answer"])]
    return {"video": row["key"], "question": text, "candidates": candidates, "answer": gold, **keys}


def lmms_record(number: int, doc: Row, target: str, reply: str, repeats: int = 1) -> Row:
    """As lmms-eval logs it."""
    own = {"pred_answer": reply, "gt_answer": target, "score": reply == target}
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": [["prompt", {"max_new_tokens": 16}, number, "task", "train"]],
        "resps": [[reply] * repeats],
        "filtered_resps": [reply],
        "doc_hash": "74234e98afe7498fb5daf1f36ac2d78acc339464f950703b8c019892f982b90b",
        "some_mc_accuracy": own,
    }


def plain_form(flat: list[Row], replies: dict[str, str], folder: Path) -> list[Path]:
    return [jsonl(folder / "log.jsonl", [{"question_id": uid, "output": reply} for uid, reply in replies.items()])]


def numbered_form(flat: list[Row], replies: dict[str, str], folder: Path) -> list[Path]:
    rows = [{"uid": int(uid), "reply": reply} for uid, reply in reversed(replies.items())]
    return [jsonl(folder / "log.jsonl.gz", rows)]


def mapping_form(flat: list[Row], replies: dict[str, str], folder: Path) -> list[Path]:
    file = folder / "answers.json"
    file.write_text(json.dumps(replies))
    return [file]


def fork_form(flat: list[Row], replies: dict[str, str], folder: Path) -> list[Path]:
    """Six files, one for each genre, in each of which documents are numbered from 0; the last rank padded."""
    files = []
    for genre in sorted({row["type"] for row in flat}):
        rows = [row for row in flat if row["type"] == genre]
        logs = [
            lmms_record(i, fork_doc(row), row["answer"], replies[row["uid"]], 1 + i % 3) for i, row in enumerate(rows)
        ]
        file = folder / f"lvbench_{genre}.json"
        file.write_text(json.dumps({"args": {}, "model_configs": {}, "logs": [*logs, logs[0]], "time": "0623_1200"}))
        files.append(file)
    return files


def samples_form(flat: list[Row], replies: dict[str, str], folder: Path) -> list[Path]:
    """lmms-eval's newer samples: no document, only its number, the right answer and the prompt."""
    rows = [
        {
            "doc_id": number,
            "target": row["answer"],
            "filtered_resps": [replies[row["uid"]]],
            "input": f"{row['question']}\nAnswer the question with the option letter",
        }
        for number, row in enumerate(flat)
    ]
    random.Random(1).shuffle(rows)
    return [jsonl(folder / "20260101_samples_lvbench.jsonl", rows)]


def table(flat: list[Row], replies: dict[str, str]) -> list[Row]:
    rows = []
    for index, row in enumerate(flat):
        doc = fork_doc(row)
        candidates = str([candidate[4:] for candidate in doc["candidates"]])
        shown = {"index": index, "video": doc["video"], "question": doc["question"], "candidates": candidates}
        rows.append({**shown, "answer": row["answer"], "prediction": replies[row["uid"]]})
    return rows


def excel_form(flat: list[Row], replies: dict[str, str], folder: Path) -> list[Path]:
    return [xlsx(folder / "model_LVBench.xlsx", table(flat, replies))]


def tsv_form(flat: list[Row], replies: dict[str, str], folder: Path) -> list[Path]:
    return [tsv(folder / "model_LVBench.tsv", table(flat, replies))]


FORMS = (plain_form, numbered_form, mapping_form, fork_form, samples_form, excel_form, tsv_form)


def check_scores(run: Path, setting: str) -> None:
    """Every number of expected_scores.json, to its last digit."""
    expected = json.loads((REPLAY / "expected_scores.json").read_text())["lvbench"][setting]
    with (run / "scores.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "accuracy"]
    found = {(row["group"], row["label"]): row for row in rows}
    groups = {"type": "type", "question_type": "capability", "first_question_type": "first_capability"}
    wanted = {("", ""): expected["overall"]}
    for theirs, ours in groups.items():
        wanted |= {(ours, label): values for label, values in expected[theirs].items()}
    assert len(wanted) == 1 + 6 + 6 + 6
    for key, values in wanted.items():
        assert round(float(found[key]["value"]), 4) == values["accuracy"], key
        assert int(found[key]["n"]) == values["total"], key
        assert round(float(found[key]["value"]) * values["total"] / 100, 6) == values["correct"], key
    assert found["", ""]["n_invalid"] == str(expected["unparsed"])


LVBENCH = ["task=lvbench", "source=local", f"source.root={REPLAY / 'lvbench' / 'annotations'}", "tracker=csv"]


@needs_replay
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("form", FORMS)
def test_real_answers_give_the_published_scores_in_every_form(form, setting, flat, tmp_path):
    files = form(flat, answers(setting), tmp_path)
    check_scores(run(files, tmp_path / "r", *LVBENCH, "task.protocol=video_xl_2"), setting)


@needs_replay
@pytest.mark.parametrize("protocol", ["official", "lmms_eval", "videochat_flash"])
def test_bare_letters_score_the_same_under_every_protocol(protocol, tmp_path):
    file = REPLAY / "lvbench/predictions/w_chunk_bilevel.jsonl.gz"
    check_scores(run(file, tmp_path, *LVBENCH, f"task.protocol={protocol}"), "w_chunk_bilevel")


@needs_replay
@pytest.mark.parametrize("copy", ["video_info.meta.jsonl.gz", "lvbench_flat.parquet", "lvbench_flat.jsonl.gz"])
def test_real_answers_join_every_copy_of_the_data(copy, flat, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / copy).write_bytes((REPLAY / "lvbench" / "annotations" / copy).read_bytes())
    files = fork_form(flat, answers("pure"), tmp_path)
    named = ["task=lvbench", "source=local", f"source.root={data}", "tracker=csv", "task.protocol=video_xl_2"]
    check_scores(run(files, tmp_path / "r", *named), "pure")


@needs_replay
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_published_scores_from_the_command_line(setting, tmp_path):
    file = REPLAY / f"lvbench/predictions/{setting}.jsonl.gz"
    done = run_command(
        str(file), *LVBENCH, "task.protocol=video_xl_2", f"results={tmp_path}", module="evalkit.import_log"
    )
    assert done.returncode == 0, done.stderr
    check_scores(only_run(tmp_path), setting)
    assert {"pure": "47.64", "w_chunk": "46.61", "w_chunk_bilevel": "48.61"}[setting] in done.stderr


@needs_replay
def test_real_needle_answers_give_their_cells(tmp_path):
    """The needles themselves are not at hand: four of one's own stand for them, with the same right letters."""
    from PIL import Image

    needles = {"a": "B", "b": "A", "c": "C", "d": "A"}
    for folder in ("qa", "needles"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for name in needles:
        Image.new("RGB", (32, 24)).save(tmp_path / "data" / "needles" / f"{name}.png")
    questions = [f"What is on {name}?\nOptions:(A) x\n(B) y\n(C) z" for name in needles]
    qa = {"needle": [f"{n}.png" for n in needles], "retrieval_question": questions, "answer": [*needles.values()]}
    (tmp_path / "data" / "qa" / "qa.json").write_text(json.dumps(qa))
    rows, cells = (read_gz(REPLAY / f"niah/needle_{name}.jsonl.gz") for name in ("answers", "cells"))
    named = ["task=niah", "task.protocol=video_xl", "task.control=false", "task.haystack=movie.mp4", "source=local"]
    named = [*named, f"source.root={tmp_path / 'data'}", "tracker=csv"]
    with pytest.raises(DataError, match="the log holds several runs"):
        run(jsonl(tmp_path / "all.jsonl", rows), tmp_path / "r", *named)
    for log in sorted({row["log"] for row in rows}):
        file = jsonl(tmp_path / f"{log}.jsonl", [row for row in rows if row["log"] == log])
        records = [r for r in read_records(run(file, tmp_path / log, *named)) if r.status == "ok"]
        found: dict[tuple[int, float], list[float]] = {}
        for r in records:
            found.setdefault((int(r.groups["frames"][0]), 100 * float(r.groups["depth"][0])), []).append(r.score)
        expected = {(cell["frames"], cell["depth"]): cell["score"] for cell in cells if cell["log"] == log}
        assert {cell: sum(scores) / len(scores) for cell, scores in found.items()} == expected


# Every benchmark, in the shapes of its own logs ---------------------------------------------------------------------

TASKS = {
    "mlvu": "MLVU",
    "videomme": "VideoMME",
    "lvbench": "LVBench",
    "longvideobench": "LongVideoBench",
    "vnbench": "VNBench",
    "charades_sta": "CharadesSTA",
    "nextqa": "NExTQA",
    "mvbench": "MVBench",
    "videomathqa": "VideoMathQA",
}
Pair = tuple[Clip, Question]


def pairs(name: str, **settings: Any) -> list[Pair]:
    """All questions of the miniature."""
    task = instantiate({"_target_": f"evalkit.tasks.{name}.{TASKS[name]}", **settings}, "task")
    Mini().open(task)
    return [(clip, question) for clip in task.clips() for question in clip.questions]


def lettered(options: tuple[str, ...], form: str) -> list[str]:
    return [form.format(letter, option) for letter, option in zip("ABCDEF", options, strict=False)]


def mlvu(clip: Clip, q: Question) -> Row:
    lines = "\n".join(lettered(q.options, "({}) {}"))
    return {"video_name": clip.video.path.name, "question": f"{q.text}\n{lines}", "answer": q.gold, "task_type": "x"}


def videomme(clip: Clip, q: Question) -> Row:
    doc = {"video_id": clip.meta["video_id"], "videoID": clip.video.id, "question_id": q.id, "duration": "short"}
    return {**doc, "question": q.text, "options": list(q.options), "answer": q.gold}


def videomme_without_id(clip: Clip, q: Question) -> Row:
    return {key: value for key, value in videomme(clip, q).items() if key != "question_id"}


def lvbench(clip: Clip, q: Question) -> Row:
    candidates = lettered(q.options, "({}) {}")
    gold = candidates["ABCD".index(str(q.gold))]
    return {"video": f"{clip.video.id}.mp4", "question": q.text, "candidates": candidates, "answer": gold}


def longvideobench(clip: Clip, q: Question) -> Row:
    doc = {"video_id": clip.video.id, "id": q.id, "question": q.text, "correct_choice": "ABCDE".index(str(q.gold))}
    return {**doc, **{f"option{i}": option for i, option in enumerate([*q.options, "N/A", "N/A"][:5])}}


def charades(clip: Clip, q: Question) -> Row:
    import numpy as np

    halves = [float(np.float16(value)) for value in q.gold]  # as the hub's copy holds them
    return {"video": f"{clip.video.id}.mp4", "caption": q.text, "timestamp": halves}


def nextqa(clip: Clip, q: Question) -> Row:
    doc = {"video": int(clip.video.id), "qid": q.id.partition("_")[2], "question": q.text, "type": "CW"}
    return {**doc, "answer": "ABCDE".index(str(q.gold)), **{f"a{i}": option for i, option in enumerate(q.options)}}


def mvbench(clip: Clip, q: Question) -> Row:
    gold = q.options["ABCDE".index(str(q.gold))] if len(str(q.gold)) == 1 else q.gold
    name = clip.cluster.rsplit("/", 1)[-1]
    crop = {"start": clip.video.start_s, "end": clip.video.end_s}
    return {"video": name, "question": q.text, "candidates": list(q.options), "answer": gold, **crop}


def videomathqa(clip: Clip, q: Question) -> Row:
    doc = {"videoID": clip.video.id, "question_id": int(q.unit), "question": q.text, "options": list(q.options)}
    return {**doc, "answer": q.gold}


DOCS: list[tuple[str, Callable[[Clip, Question], Row], dict[str, str]]] = [
    ("mlvu", mlvu, {}),
    ("mlvu", mlvu, {"split": "test"}),
    ("videomme", videomme, {}),
    ("videomme", videomme_without_id, {}),
    ("lvbench", lvbench, {}),
    ("longvideobench", longvideobench, {}),
    ("charades_sta", charades, {}),
    ("nextqa", nextqa, {}),
    ("mvbench", mvbench, {}),
    ("videomathqa", videomathqa, {}),
    ("videomathqa", videomathqa, {"split": "mbin"}),
]


def lmms_json(rows: list[Row], folder: Path) -> Path:
    file = folder / "log.json"
    file.write_text(json.dumps({"args": {}, "logs": rows}))
    return file


def lmms_jsonl(rows: list[Row], folder: Path) -> Path:
    return jsonl(folder / "20260101_samples_x.jsonl", rows)


def vlmevalkit(rows: list[Row]) -> list[Row]:
    """lmms records as rows of a VLMEvalKit table: flat, lists printed."""
    flat = [{"index": row["doc_id"], **row["doc"], "prediction": row["resps"][0][0]} for row in rows]
    return [{key: str(v) if isinstance(v, list) else v for key, v in row.items()} for row in flat]


def vlmevalkit_xlsx(rows: list[Row], folder: Path) -> Path:
    return xlsx(folder / "model_x.xlsx", vlmevalkit(rows))


def vlmevalkit_tsv(rows: list[Row], folder: Path) -> Path:
    return tsv(folder / "model_x.tsv", vlmevalkit(rows))


def interchangeable(pair: Pair) -> tuple[object, ...]:
    """Questions of a video that are the same in all respects cannot be told apart, and need not be."""
    clip, q = pair
    return clip.video.path, clip.video.start_s, q.text, q.options, q.gold


def arguments(name: str, **settings: str) -> list[str]:
    return [f"task={name}", *(f"task.{key}={value}" for key, value in settings.items()), "source=mini", "tracker=csv"]


@pytest.mark.parametrize("form", [lmms_json, lmms_jsonl, vlmevalkit_xlsx, vlmevalkit_tsv])
@pytest.mark.parametrize(("name", "doc", "settings"), DOCS)
def test_every_reply_reaches_its_question(name, doc, settings, form, tmp_path):
    asked = pairs(name, **settings)
    rows = [
        lmms_record(i, doc(clip, q), str(q.gold), f"reply to {interchangeable((clip, q))}", 1 + i % 6)
        for i, (clip, q) in enumerate(asked)
    ]
    random.Random(3).shuffle(rows)
    file = form([*rows, *rows[:2]], tmp_path)  # ranks are padded with documents that were asked already
    records = {r.question: r for r in read_records(run(file, tmp_path / "r", *arguments(name, **settings)))}
    for pair in asked:
        assert records[pair[1].id].reply == f"reply to {interchangeable(pair)}"
    assert len(records) == len(asked)


@pytest.mark.parametrize(("name", "settings"), [(name, settings) for name, _, settings in DOCS[:2] + DOCS[3:]])
def test_samples_without_documents(name, settings, tmp_path):
    """lmms-eval's newer samples: the row's number in the data, the right answer, and the prompt."""
    task = instantiate({"_target_": f"evalkit.tasks.{name}.{TASKS[name]}", **settings}, "task")
    Mini().open(task)
    asked = [(clip, q) for clip in task.load(task.root) for q in clip.questions]
    rows = [
        {
            "doc_id": i,
            "target": str(list(q.gold) if isinstance(q.gold, tuple) else q.gold),
            "filtered_resps": [q.id],
            "input": "\n".join(("Watch the video.", q.text, *lettered(q.options, "({}) {}"), "Answer with a letter.")),
        }
        for i, (_, q) in enumerate(asked)
    ]
    random.Random(2).shuffle(rows)
    records = read_records(run(jsonl(tmp_path / "s.jsonl", rows), tmp_path / "r", *arguments(name, **settings)))
    assert [r.question for r in records if r.reply != r.question] == []


def test_vnbench_results(tmp_path):
    """The official result lines: an id that ends in the try, a gold as letter or number, null where nothing came."""
    asked = pairs("vnbench")
    rows = [
        {
            "question_id": q.id,
            "pred": None if i == 5 else f"{q.gold}. {q.id}",
            "gt": q.gold if i % 2 else "ABCD".index(str(q.gold)),
            "type": q.groups["type"][0],
            "try": int(q.id[-1]),
        }
        for i, (_, q) in enumerate(asked)
    ]
    folder = run(jsonl(tmp_path / "vnbench.jsonl", rows), tmp_path / "r", *arguments("vnbench"))
    records = read_records(folder)
    assert [r.reply for r in records if r.question != asked[5][1].id] == [
        f"{q.gold}. {q.id}" for i, (_, q) in enumerate(asked) if i != 5
    ]
    assert {r.reply: r.score for r in records}[""] == 0
    with (folder / "scores.csv").open(newline="") as file:
        overall = next(csv.DictReader(file))
    assert float(overall["value"]) == pytest.approx(100 * (8.5 / 9))  # one of the two groups of one of the nine types


def test_a_longvideobench_submission(tmp_path):
    asked = pairs("longvideobench", split="test")
    file = tmp_path / "longvideobench_test_for_submission.json"
    file.write_text(json.dumps({q.id: f"B, {q.id}" for _, q in asked}))
    folder = run(file, tmp_path / "r", *arguments("longvideobench", split="test"))
    assert [(r.reply, r.score) for r in read_records(folder)] == [(f"B, {q.id}", None) for _, q in asked]
    assert json.loads((folder / file.name).read_text()) == json.loads(file.read_text())


def test_charades_results_under_their_long_keys(tmp_path):
    asked = pairs("charades_sta")
    keys = {f"{clip.video.id}.mp4>>>{q.text}>>>{list(q.gold)}": q.id for clip, q in asked}
    file = tmp_path / "results.json"
    file.write_text(json.dumps({key: f"from 1.0 to 2.0 ({id})" for key, id in keys.items()}))
    records = read_records(run(file, tmp_path / "r", *arguments("charades_sta")))
    assert [r.reply for r in records] == [f"from 1.0 to 2.0 ({q.id})" for _, q in asked]


SAYS = {
    "old metric": lambda clip, q: {f"{clip.video.id}.mp4>>>{q.text}>>>{list(q.gold)}": "reply"},
    "new metric": lambda clip, q: {"query": f"{clip.video.id}.mp4>>>{q.text}>>>{list(q.gold)}", "pred": [0, 1]},
    "nothing": lambda clip, q: {"iou": 0.5},
}


@pytest.mark.parametrize("says", SAYS)
def test_charades_samples_without_documents(says, tmp_path):
    """lmms-eval's newer samples drop the document; a metric may name video and sentence, the number always stands for
    the row of the data, in which the sentences of a video need not follow each other."""
    data = tmp_path / "data"
    data.mkdir()
    task = instantiate({"_target_": "evalkit.tasks.charades_sta.CharadesSTA"}, "task")
    Mini().open(task)
    lines = (task.root / "charades_sta_test.txt").read_text().splitlines()
    random.Random(5).shuffle(lines)
    (data / "charades_sta_test.txt").write_text("\n".join(lines) + "\n")
    task.root = data
    asked = [(clip, q) for clip in task.load(data) for q in clip.questions]
    rows = [
        {
            "doc_id": i,
            "target": str(list(q.gold)),
            "filtered_resps": [f"0.0 - 1.0, {q.id}"],
            "input": f"Please find the visual event: {q.text}. Please return its times.",
            "some_metric": SAYS[says](clip, q),
        }
        for i, (clip, q) in enumerate(asked)
    ]
    assert [q.id for _, q in asked] != sorted(q.id for _, q in asked)
    named = ["task=charades_sta", "source=local", f"source.root={data}", "task.allow_missing=true", "tracker=csv"]
    random.Random(1).shuffle(rows)
    records = read_records(run(jsonl(tmp_path / "samples.jsonl", rows), tmp_path / "r", *named))
    assert len(records) == len(asked)
    assert all(r.reply == f"0.0 - 1.0, {r.question}" for r in records)


def test_videomme_results_by_video(tmp_path):
    """The file that its authors' script reads."""
    videos: dict[str, Row] = {}
    for clip, q in pairs("videomme"):
        video = videos.setdefault(clip.video.id, {"video_id": clip.meta["video_id"], "questions": []})
        video["questions"].append({"question_id": q.id, "answer": q.gold, "response": f"{q.gold}. {q.id}"})
    file = tmp_path / "output.json"
    file.write_text(json.dumps(list(videos.values())))
    records = read_records(run(file, tmp_path / "r", *arguments("videomme")))
    assert all(r.reply == f"{r.gold}. {r.question}" and r.score == 1 for r in records)


def test_llava_answers_and_needles(tmp_path):
    asked = instantiate({"_target_": "evalkit.tasks.niah.NIAH"}, "task")
    Mini().open(asked)
    ids = [q.id for clip in asked.clips() for q in clip.questions]
    rows = [{"question_id": id, "prompt": "<image>\nx", "text": f"B, {id}", "metadata": {}} for id in ids]
    records = read_records(run(jsonl(tmp_path / "answers.jsonl", rows), tmp_path / "r", *arguments("niah")))
    assert [r.reply for r in records] == [f"B, {id}" for id in ids]


@pytest.mark.parametrize("percent", [1, 100])
def test_needle_answers_by_their_cell(percent, tmp_path):
    """Rows of frames, depth, reply and right answer, as Video-XL's needle logs have them: no id, no question."""
    task = instantiate({"_target_": "evalkit.tasks.niah.NIAH", "control": False}, "task")
    Mini().open(task)
    asked = [(clip, q) for clip in task.clips() for q in clip.questions]
    rows = []
    for clip, q in asked:
        splice = clip.video.splice
        cell = {"frames": splice.frames, "depth": float(percent * splice.depth)}
        rows.append({**cell, "seconds": 1.5, "output": f"{q.gold}) in {cell}", "answer": q.gold})
    named = [*arguments("niah"), "task.control=false"]
    records = {r.question: r for r in read_records(run(jsonl(tmp_path / "n.jsonl", rows), tmp_path / "r", *named))}
    assert {q.id: records[q.id].reply for _, q in asked} == {
        q.id: row["output"] for (_, q), row in zip(asked, rows, strict=True)
    }


def test_ids_with_a_folder_and_an_ending(tmp_path):
    asked = pairs("vnbench")
    rows = [{"question_id": f"./VNBench/{q.id}", "pred": q.id} for _, q in asked]
    records = read_records(run(jsonl(tmp_path / "x.jsonl", rows), tmp_path / "r", *arguments("vnbench")))
    assert [r.reply for r in records] == [q.id for _, q in asked]


def test_empty_cells_are_empty_replies(tmp_path):
    asked = pairs("videomme")
    rows = [{**videomme(clip, q), "prediction": float("nan") if i < 3 else q.gold} for i, (clip, q) in enumerate(asked)]
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"results": rows, "model": "x"}))
    records = read_records(run(file, tmp_path / "r", *arguments("videomme")))
    assert [r.reply for r in records] == ["", "", "", *(q.gold for _, q in asked[3:])]


def test_a_prompt_shared_by_two_questions_is_told_by_the_right_answer(tmp_path):
    """As Video-MME's 472-1 and 475-1: one prompt, two videos, two right answers."""
    asked = pairs("videomme")
    shared = [q for _, q in asked if sum(other.text == q.text for _, other in asked) > 1]
    rows = [
        {
            "doc_id": i,
            "target": q.gold,
            "input": f"Select.\n{q.text}\n" + "\n".join(q.options),
            "filtered_resps": [q.id],
        }
        for i, (_, q) in enumerate(reversed(asked))
    ]
    records = read_records(run(jsonl(tmp_path / "x.jsonl", rows), tmp_path / "r", *arguments("videomme")))
    assert [r.reply for r in records] == [q.id for _, q in asked]
    assert shared or len({q.text for _, q in asked}) == len(asked)


@pytest.mark.parametrize(
    ("stated", "options", "gold", "verdict"),
    [
        ("B", ("x", "y"), "B", True),
        ("(B)", ("x", "y"), "B", True),
        ("B. y", ("x", "y"), "B", True),
        ("y.", ("x", "Y"), "B", True),
        (1, ("x", "y"), "B", True),
        ("A", ("x", "y"), "B", False),
        (0, ("x", "y"), "B", False),
        ("x", ("x", "y"), "B", False),
        ("(A) x", ("x", "y"), "B", False),
        ("(A)", ("x", "y"), "B", False),
        ("A.", ("x", "y"), "B", False),
        ("(B) same", ("same", "same"), "A", True),  # the right text stands twice
        (3, ("3", "4", "5"), "A", True),  # a value, not a number of an option
        (3.0, ("3", "4", "5"), "A", True),
        ("A. C. elegans", ("C. elegans", "E. coli"), "A", True),
        ("C. elegans", ("C. elegans", "E. coli"), "B", False),
        ("something else", ("x", "y"), "B", None),
        ("A", ("x", "y"), "none of them", None),  # MLVU has two such rows
        ("none of them", ("x", "y"), "none of them", True),
        ([4.0, 11.0], (), (4.004, 11.0), True),
        ("[4.0, 11.0]", (), (4.0, 12.0), False),
        ("4.0 to 11.0", (), (4.0, 12.0), None),
        ("B", (), "B", True),
        ("A", (), "B", False),
        ("B", ("x", "y"), None, None),
    ],
)
def test_what_agrees_with_a_right_answer(stated, options, gold, verdict):
    assert same_gold(Saying(golds=(stated,)), Question("q", "?", options, gold)) is verdict


NAMES = st.sampled_from(
    [
        *("question_id", "id", "doc_id", "doc", "resps", "reply", "pred", "target", "answer", "question", "input"),
        *(
            "video",
            "videoID",
            "options",
            "candidates",
            "logs",
            "questions",
            "start",
            "end",
            "frames",
            "depth",
            "A",
            "B",
        ),
    ]
)
AB, XY = ("a", "b"), ("x", "y")
JOINER = Joiner(
    [
        Clip(Video("v1", Path("v1.mp4")), (Question("1", "What?", AB, "A"), Question("2", "Who?", XY, "B"))),
        Clip(
            Video("v2", Path("v2.mp4"), 1.0, 2.0), (Question("3", "What?", AB, "B"), Question("4", "", (), (1.0, 2.0)))
        ),
    ]
)
KINDS = st.sampled_from([".json", ".jsonl", ".json.gz", ".jsonl.gz", ".csv", ".tsv.gz", ".xlsx"])

# What does not fit --------------------------------------------------------------------------------------------------


def videomme_log(asked: list[Pair]) -> list[Row]:
    return [lmms_record(i, videomme(clip, q), str(q.gold), str(q.gold)) for i, (clip, q) in enumerate(asked)]


def other_gold(row: Row) -> None:
    row["doc"]["answer"] = row["target"] = row["some_mc_accuracy"]["gt_answer"] = "A" if row["target"] != "A" else "B"


def other_text(row: Row) -> None:
    row["doc"]["question"] = "Is this a question of another benchmark altogether?"


def other_options(row: Row) -> None:
    row["doc"]["options"] = row["doc"]["options"][::-1]


@pytest.mark.parametrize(
    ("change", "about"), [(other_gold, "the right answer"), (other_text, "its text"), (other_options, "its options")]
)
def test_a_row_that_contradicts_its_question_is_named(change, about, tmp_path):
    rows = videomme_log(pairs("videomme"))
    change(rows[4])
    with pytest.raises(
        DataError, match=rf"1 of 18 rows contradict .*log\.json, row 5 has not {about} of question 002-2"
    ):
        run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("videomme"))
    records = read_records(run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("videomme"), "unmatched=skip"))
    assert [r.question for r in records if r.status == "failed"] == ["002-2"]


def test_numbers_of_rows_are_no_ids(tmp_path):
    """LVBench's ids look like numbers of rows; a log whose rows are numbered otherwise is joined by its texts, or
    refused."""
    asked = pairs("lvbench")
    assert {q.id for _, q in asked} == {str(i) for i in range(len(asked))}
    rows = [{"id": i, "reply": q.id, **lvbench(clip, q)} for i, (clip, q) in enumerate(reversed(asked))]
    records = read_records(run(jsonl(tmp_path / "x.jsonl", rows), tmp_path / "r", *arguments("lvbench")))
    assert all(r.reply == r.question for r in records)
    bare = [{"id": i, "reply": "A", "target": q.gold} for i, (_, q) in enumerate(reversed(asked))]
    with pytest.raises(DataError, match=r"contradict|belong to no question"):
        run(jsonl(tmp_path / "y.jsonl", bare), tmp_path / "r2", *arguments("lvbench"))


def test_a_log_of_another_split_is_refused(tmp_path):
    rows = [lmms_record(i, mlvu(clip, q), str(q.gold), "A") for i, (clip, q) in enumerate(pairs("mlvu", split="test"))]
    with pytest.raises(DataError, match=r"rows belong to no question of this task and split.*log\.json, row 1;"):
        run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("mlvu"))


def test_five_options_are_not_scored_as_two(tmp_path):
    """VideoMathQA's two splits share videos, texts and ids."""
    rows = [lmms_record(i, videomathqa(*pair), str(pair[1].gold), "A") for i, pair in enumerate(pairs("videomathqa"))]
    with pytest.raises(DataError, match=r"contradict .* its options|belong to no question"):
        run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("videomathqa", split="mbin"))


def test_a_question_without_a_reply_lowers_the_coverage(tmp_path, capsys):
    rows = videomme_log(pairs("videomme"))[:-3]
    records = read_records(run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("videomme")))
    assert [r.error["kind"] for r in records if r.status == "failed"] == ["not_in_log"] * 3
    assert "83.3%" in capsys.readouterr().err


def test_different_answers_to_one_question_are_told(tmp_path, capsys):
    rows = videomme_log(pairs("videomme"))
    rows[2]["resps"] = [["A", "B", "A"]]
    rows.append({**rows[0], "resps": [["something else"]]})
    records = read_records(run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("videomme")))
    said = capsys.readouterr().err
    assert "1 answered again, and differently (log.json, row 19)" in said
    assert "1 answered several times in one row, and differently (log.json, row 3)" in said
    assert (records[0].reply, records[2].reply) == (records[0].gold, "A")


def test_a_log_of_several_runs_is_refused(tmp_path):
    rows = videomme_log(pairs("videomme"))
    both = [*rows, *({**row, "resps": ["Z"]} for row in rows)]
    with pytest.raises(DataError, match=r"18 of 18 questions are answered again.*holds several runs"):
        run(lmms_json(both, tmp_path), tmp_path / "r", *arguments("videomme"))


def test_two_runs_are_not_mixed(tmp_path):
    rows = videomme_log(pairs("videomme"))
    one, two = jsonl(tmp_path / "one.jsonl", rows), [{**row, "resps": ["Z"]} for row in rows]
    with pytest.raises(DataError, match="18 questions are answered differently by several of the files"):
        run([one, jsonl(tmp_path / "two.jsonl", two)], tmp_path / "r", *arguments("videomme"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.json", "{", "is not JSON"),
        ("x.json", "3", "expected a list of rows"),
        ("x.json", "[1]", "expected a list of rows"),
        ("x.json", "[]", "holds no replies"),
        ("x.jsonl", '{"question_id": "001-1"}', "row 1: no reply. Expected one of the columns"),
        ("x.jsonl", '{"question_id": "nobody", "reply": "A"}', "belong to no question"),
        ("x.jsonl", "nonsense", "cannot be read"),
        ("x.xlsx", "no table", "is no Excel table"),
        ("x.pkl", "", "unknown kind of table"),
    ],
)
def test_files_that_are_no_logs(name, content, words, tmp_path):
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(DataError, match=words):
        run(file, tmp_path / "r", *arguments("videomme"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    json_values, st.sampled_from([".json", ".jsonl", ".json.gz", ".jsonl.gz", ".csv", ".tsv.gz", ".xlsx"]), st.data()
)
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path_factory, value, suffix, data):
    """Bytes of any kind, and rows that are nearly right."""
    file = tmp_path_factory.getbasetemp() / f"any{suffix}"
    content = json.dumps(value).encode() if data.draw(st.booleans()) else data.draw(st.binary(max_size=60))
    if suffix.endswith(".gz") and data.draw(st.booleans()):
        content = gzip.compress(content)
    file.write_bytes(content)
    try:
        rows = read_log(file)
    except DataError:
        return
    assert JOINER.join(rows).replies.keys() <= JOINER.ids.keys()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(NAMES, json_values, max_size=6), min_size=1, max_size=4))
def test_whatever_a_row_says_it_answers_a_question_or_none(rows):
    logged = [Logged(Path("x"), i, "A", row) for i, row in enumerate(rows)]
    out = JOINER.join(logged)
    assert len(out.unmatched) + len(out.contradicting) + len(out.replies) <= len(rows)


@pytest.mark.parametrize(
    ("settings", "words"), [(["unmatched=drop"], "choose error or skip"), (["nmae=x"], 'there is no setting "nmae"')]
)
def test_mistakes(settings, words, tmp_path):
    file = jsonl(tmp_path / "x.jsonl", [{"question_id": "001-1", "reply": "A"}])
    with pytest.raises(ConfigError, match=words):
        run(file, tmp_path / "r", *arguments("videomme"), *settings)
    with pytest.raises(ConfigError, match="name a file"):
        import_log(Arguments([], ["task=videomme"], [CONFIGS]))


def test_twelve_thousand_answers_take_under_twenty_seconds(tmp_path):
    """The time of import and scoring, with clusters to resample, as LVBench's videos are."""
    data = tmp_path / "data"
    data.mkdir()
    videos = [
        {
            "key": f"video{v}",
            "type": "tv",
            "qa": [
                {
                    "uid": str(15 * v + i),
                    "question": f"What is number {i}?\n(A) a\n(B) b\n(C) c\n(D) d",
                    "answer": "ABCD"[(v + i) % 4],
                    "question_type": ["reasoning", "summarization"][: 1 + i % 2],
                    "time_reference": "00:15-00:19",
                }
                for i in range(15)
            ],
        }
        for v in range(800)
    ]
    jsonl(data / "video_info.meta.jsonl", videos)
    rows = [
        {"video": video["key"], "question": qa["question"], "answer": qa["answer"], "reply": "B. b"}
        for video in videos
        for qa in video["qa"]
    ]
    log = jsonl(tmp_path / "log.jsonl.gz", rows)
    started = time.monotonic()
    named = ["task=lvbench", "source=local", f"source.root={data}", "tracker=csv", "task.allow_missing=true"]
    records = read_records(run(log, tmp_path / "r", *named))
    assert time.monotonic() - started < 20
    assert len(records) == 12000
    assert sum(r.score for r in records) == 3000


def test_half_a_log_is_below_coverage(tmp_path):
    task = LVBench()
    Mini().open(task)
    rows = [{"question_id": q.id, "reply": "A"} for clip in task.clips() for q in clip.questions]
    log = jsonl(tmp_path / "half.jsonl", rows[: len(rows) // 2])
    named = [str(log), "task=lvbench", "source=mini", "tracker=csv", f"results={tmp_path / 'r'}"]
    done = run_command(*named, module="evalkit.import_log")
    assert done.returncode == 3
    assert "below coverage: 50.0%" in done.stderr
    assert run_command(*named, "min_coverage=0.4", module="evalkit.import_log").returncode == 0
