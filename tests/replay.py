"""Published answers of real models, for tests, if their folder is present (`EVALKIT_REPLAY`)."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from evalkit.scoring.grade import Choice
from evalkit.types import Question, Record

REPLAY = Path(os.environ.get("EVALKIT_REPLAY") or Path(__file__).resolve().parents[2] / "shared" / "replay")
SETTINGS = ("pure", "w_chunk", "w_chunk_bilevel")

needs_replay = pytest.mark.skipif(
    not (REPLAY / "lvbench").is_dir(),
    reason=f"no real answers at {REPLAY}: set EVALKIT_REPLAY to their folder",
)


def read_lines(path: str) -> list[dict[str, Any]]:
    with gzip.open(REPLAY / path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def expected_scores() -> dict[str, Any]:
    return json.loads((REPLAY / "expected_scores.json").read_text())["lvbench"]


def lvbench_questions() -> dict[str, tuple[Question, str]]:
    """id -> question and video."""
    questions = {}
    for row in read_lines("lvbench/annotations/lvbench_flat.jsonl.gz"):
        text, *options = row["question"].split("\n(")
        groups = {
            "capability": tuple(row["question_type"]),
            "first_capability": tuple(row["question_type"][:1]),
            "genre": (row["type"],),
        }
        question = Question(row["uid"], text, tuple(o[3:] for o in options), row["answer"], groups=groups)
        questions[row["uid"]] = question, row["key"]
    return questions


def lvbench_records(setting: str, grader: Choice | None = None) -> list[Record]:
    grader = grader or Choice("lmms_eval")
    questions = lvbench_questions()
    records = []
    for row in read_lines(f"lvbench/predictions/{setting}.jsonl.gz"):
        question, video = questions[row["question_id"]]
        grade = grader.grade(question, row["output"])
        records.append(
            Record(
                run=setting,
                task="lvbench",
                split="test",
                protocol="official",
                model="videoxl2",
                video=video,
                question=question.id,
                unit=question.unit,
                cluster=video,
                groups={name: list(labels) for name, labels in question.groups.items()},
                gold=question.gold,
                status="ok",
                reply=row["output"],
                extracted=grade.extracted,
                score=grade.score,
                values=dict(grade.values),
                rule=grade.rule,
                valid=grade.valid,
            )
        )
    return records
