"""Importing logs of other harnesses, from the command line to the scores: Video-XL-2's published answers in every
format."""

import json
import random
import time
from pathlib import Path

import pytest

from evalkit import CONFIGS
from evalkit.cli.tools import Arguments
from evalkit.errors import ConfigError, DataError
from evalkit.import_log.command import import_log
from evalkit.runs import read_records
from evalkit.sources import Mini
from evalkit.tasks.lvbench import LVBench
from tests.foreign_logs import (
    Row,
    arguments,
    check_scores,
    jsonl,
    lmms_json,
    lmms_record,
    pairs,
    read_gz,
    run,
    tsv,
    videomme_log,
    xlsx,
)
from tests.helpers import only_run, run_command, stable
from tests.replay import REPLAY, SETTINGS, needs_replay


@pytest.fixture(scope="module")
def flat() -> list[Row]:
    return read_gz(REPLAY / "lvbench/annotations/lvbench_flat.jsonl.gz")


def answers(setting: str) -> dict[str, str]:
    return {row["question_id"]: row["output"] for row in read_gz(REPLAY / f"lvbench/predictions/{setting}.jsonl.gz")}


def fork_doc(row: Row) -> Row:
    """A row of the LVBench copy that Video-XL-2's code reads: without id, and with the letters in the options too."""
    text, *options = row["question"].split("\n(")
    candidates = [f"({option}" for option in options]
    keys = {key: row[key] for key in ("type", "question_type", "time_reference")}
    gold = candidates["ABCD".index(row["answer"])]
    return {"video": row["key"], "question": text, "candidates": candidates, "answer": gold, **keys}


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
    """Six files, one for each genre. Documents are numbered from 0 in each, and the last rank repeats one."""
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


LVBENCH = ["task=lvbench", "source=local", f"source.root={REPLAY / 'lvbench' / 'annotations'}", "tracker=csv"]


@needs_replay
@pytest.mark.parametrize(
    ("form", "setting"),
    [*((form, "pure") for form in FORMS), *((fork_form, setting) for setting in SETTINGS[1:])],
)
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
    """The published needles are not available. Four others with the same right letters replace them."""
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


def test_a_question_without_a_reply_lowers_the_coverage(tmp_path, capsys):
    rows = videomme_log(pairs("videomme"))[:-3]
    records = read_records(run(lmms_json(rows, tmp_path), tmp_path / "r", *arguments("videomme")))
    assert [r.error["kind"] for r in records if r.status == "failed"] == ["not_in_log"] * 3
    assert "83.3%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "words"), [(["unmatched=drop"], "choose error or skip"), (["nmae=x"], 'there is no setting "nmae"')]
)
def test_mistakes(settings, words, tmp_path):
    file = jsonl(tmp_path / "x.jsonl", [{"question_id": "001-1", "reply": "A"}])
    with pytest.raises(ConfigError, match=words):
        run(file, tmp_path / "r", *arguments("videomme"), *settings)
    with pytest.raises(ConfigError, match=r"source\.root is a setting of source=local: add source=local"):
        run(file, tmp_path / "r", "task=videomme", "source.root=/data", "tracker=csv")
    with pytest.raises(ConfigError, match="name a file"):
        import_log(Arguments([], ["task=videomme"], [CONFIGS]))


def test_twelve_thousand_answers_take_under_twelve_seconds(tmp_path):
    """Import and scoring of 12,000 answers on clusters of the size of LVBench's videos."""
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
    started = time.process_time()
    named = ["task=lvbench", "source=local", f"source.root={data}", "tracker=csv", "task.allow_missing=true"]
    records = read_records(run(log, tmp_path / "r", *named))
    assert time.process_time() - started < 12
    assert len(records) == 12000
    assert sum(r.score for r in records) == 3000


def test_half_a_log_is_below_coverage(tmp_path):
    task = LVBench()
    rows = [{"question_id": q.id, "reply": "A"} for item in task.read(Mini().open(task)) for q in item.questions]
    log = jsonl(tmp_path / "half.jsonl", rows[: len(rows) // 2])
    named = [str(log), "task=lvbench", "source=mini", "tracker=csv", f"results={tmp_path / 'r'}"]
    done = run_command(*named, module="evalkit.import_log")
    assert done.returncode == 3
    assert "below coverage: 50.0%" in done.stderr
    assert run_command(*named, "min_coverage=0.4", module="evalkit.import_log").returncode == 0


def test_the_order_of_the_files_changes_nothing(tmp_path):
    rows = videomme_log(pairs("videomme"))
    files = [jsonl(tmp_path / f"{name}.jsonl", rows[i::3]) for i, name in enumerate(["b", "c", "a"])]
    runs = [
        run(order, tmp_path / str(i), *arguments("videomme"))
        for i, order in enumerate((files, files[::-1], files[1:] + files[:1]))
    ]
    assert len({folder.relative_to(folder.parents[2]) for folder in runs}) == 1
    assert runs[0].parent.name == "a"
    assert len({json.dumps(stable(folder / "records.jsonl")) for folder in runs}) == 1


def test_the_prompts_of_a_log_are_kept(tmp_path):
    """The prompt as lmms-eval logs it (first argument of the request, in two forms), and as a column."""
    asked = pairs("videomme")
    rows = videomme_log(asked)
    forms = [
        lambda i: {"arguments": [[f"prompt {i}", {"max_new_tokens": 16}, i]]},
        lambda i: {"arguments": {"gen_args_0": {"arg_0": f"prompt {i}", "arg_1": {}}}},
        lambda i: {"arguments": [], "input": f"prompt {i}"},
        lambda i: {"arguments": None},
    ]
    log = [{**row, **forms[i % 4](i)} for i, row in enumerate(rows)]
    records = read_records(run(jsonl(tmp_path / "x.jsonl", log), tmp_path / "r", *arguments("videomme")))
    found = {r.question: r.prompt for r in records}
    assert found == {q.id: f"prompt {i}" if i % 4 < 3 else None for i, (_, q) in enumerate(asked)}
