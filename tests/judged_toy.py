"""The toy benchmark with open answers, graded by a judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evalkit.scoring.grade import Judged
from evalkit.scoring.summary import Mean
from evalkit.task import Protocol
from evalkit.tasks._judge import JudgeConfig
from evalkit.types import Question
from tests.toy import Toy, _ask


@dataclass
class JudgedToy(Toy):
    judge: JudgeConfig = field(default_factory=JudgeConfig)

    name = "judged_toy"
    benchmark = "Judged Toy Videos"

    def available_protocols(self) -> Mapping[str, Protocol]:
        grader = Judged(_messages, _read, ("score",), self.judge.judge())
        return {"official": Protocol("tests", _ask, grader, (Mean("accuracy"),))}


def _messages(question: Question, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{question.id}: is {reply} right? It is {question.gold}."}]


def _read(reply: str) -> dict[str, float] | None:
    return {"score": float(reply)} if reply in ("0", "1") else None
