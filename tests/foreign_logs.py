"""Logs of other harnesses for tests: in the formats of the harnesses, with the columns of each benchmark."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openpyxl import Workbook

from evalkit import CONFIGS
from evalkit.cli.tools import Arguments
from evalkit.config import instantiate
from evalkit.import_log.command import import_log
from evalkit.sources import Mini
from evalkit.types import Question, VideoQuestions
from tests.helpers import only_run
from tests.replay import REPLAY

Row = dict[str, Any]


def run(files: Path | list[Path], results: Path, *settings: str) -> Path:
    """Import in this process. Returns the run folder."""
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


def read_gz(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def check_scores(run: Path, setting: str) -> None:
    """Check all numbers of expected_scores.json, to the last digit."""
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


def lmms_record(number: int, doc: Row, target: str, reply: str, repeats: int = 1) -> Row:
    """A row as lmms-eval logs it."""
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


Pair = tuple[VideoQuestions, Question]


def pairs(name: str, **settings: Any) -> list[Pair]:
    """All questions of the miniature."""
    task = instantiate({"_target_": f"evalkit.tasks.{name}.{TASKS[name]}", **settings}, "task")
    return [(item, question) for item in task.read(Mini().open(task)) for question in item.questions]


def arguments(name: str, **settings: str) -> list[str]:
    return [f"task={name}", *(f"task.{key}={value}" for key, value in settings.items()), "source=mini", "tracker=csv"]


def lettered(options: tuple[str, ...], form: str) -> list[str]:
    return [form.format(letter, option) for letter, option in zip("ABCDEF", options, strict=False)]


def mlvu(item: VideoQuestions, q: Question) -> Row:
    lines = "\n".join(lettered(q.options, "({}) {}"))
    return {"video_name": item.video.path.name, "question": f"{q.text}\n{lines}", "answer": q.gold, "task_type": "x"}


def videomme(item: VideoQuestions, q: Question) -> Row:
    doc = {"video_id": item.meta["video_id"], "videoID": item.video.id, "question_id": q.id, "duration": "short"}
    return {**doc, "question": q.text, "options": list(q.options), "answer": q.gold}


def videomme_without_id(item: VideoQuestions, q: Question) -> Row:
    return {key: value for key, value in videomme(item, q).items() if key != "question_id"}


def lvbench(item: VideoQuestions, q: Question) -> Row:
    candidates = lettered(q.options, "({}) {}")
    gold = candidates["ABCD".index(str(q.gold))]
    return {"video": f"{item.video.id}.mp4", "question": q.text, "candidates": candidates, "answer": gold}


def longvideobench(item: VideoQuestions, q: Question) -> Row:
    doc = {"video_id": item.video.id, "id": q.id, "question": q.text, "correct_choice": "ABCDE".index(str(q.gold))}
    return {**doc, **{f"option{i}": option for i, option in enumerate([*q.options, "N/A", "N/A"][:5])}}


def charades(item: VideoQuestions, q: Question) -> Row:
    import numpy as np

    halves = [float(np.float16(value)) for value in q.gold]  # as the hub's copy holds them
    return {"video": f"{item.video.id}.mp4", "caption": q.text, "timestamp": halves}


def nextqa(item: VideoQuestions, q: Question) -> Row:
    doc = {"video": int(item.video.id), "qid": q.id.partition("_")[2], "question": q.text, "type": "CW"}
    return {**doc, "answer": "ABCDE".index(str(q.gold)), **{f"a{i}": option for i, option in enumerate(q.options)}}


def mvbench(item: VideoQuestions, q: Question) -> Row:
    gold = q.options["ABCDE".index(str(q.gold))] if len(str(q.gold)) == 1 else q.gold
    name = item.cluster.rsplit("/", 1)[-1]
    crop = {"start": item.video.start_s, "end": item.video.end_s}
    return {"video": name, "question": q.text, "candidates": list(q.options), "answer": gold, **crop}


def videomathqa(item: VideoQuestions, q: Question) -> Row:
    doc = {"videoID": item.video.id, "question_id": int(q.unit), "question": q.text, "options": list(q.options)}
    return {**doc, "answer": q.gold}


DOCS: list[tuple[str, Callable[[VideoQuestions, Question], Row], dict[str, str]]] = [
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


def vlmevalkit(rows: list[Row]) -> list[Row]:
    """lmms records as rows of a VLMEvalKit table: flat, lists printed."""
    flat = [{"index": row["doc_id"], **row["doc"], "prediction": row["resps"][0][0]} for row in rows]
    return [{key: str(v) if isinstance(v, list) else v for key, v in row.items()} for row in flat]


def vlmevalkit_xlsx(rows: list[Row], folder: Path) -> Path:
    return xlsx(folder / "model_x.xlsx", vlmevalkit(rows))


def vlmevalkit_tsv(rows: list[Row], folder: Path) -> Path:
    return tsv(folder / "model_x.tsv", vlmevalkit(rows))


def interchangeable(pair: Pair) -> tuple[object, ...]:
    """A key that is equal for questions that a log cannot distinguish, and need not."""
    item, q = pair
    return item.video.path, item.video.start_s, q.text, q.options, q.gold


def videomme_log(asked: list[Pair]) -> list[Row]:
    return [lmms_record(i, videomme(item, q), str(q.gold), str(q.gold)) for i, (item, q) in enumerate(asked)]
