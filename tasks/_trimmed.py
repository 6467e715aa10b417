"""Scorers that cut the reply in their own way before a published extractor reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from evalkit.scoring.extract import Extracted, extractor
from evalkit.scoring.grade import Choice
from evalkit.scoring.reasoning import Answer, strip_reasoning
from evalkit.types import Question


@dataclass(frozen=True)
class Trimmed(Choice):
    """`trim` gives the part of the reply that `extractor` is shown. It comes after the reasoning pre-pass."""

    trim: Callable[[str], str] = str

    def read(self, question: Question, reply: str) -> tuple[Extracted, str, tuple[str, ...]]:
        answer = strip_reasoning(reply, self.markers) if self.reasoning else Answer(reply)
        text = self.trim(answer.text)
        found = extractor(self.extractor).extract(text, question.options, question.id, self.letters)
        return found, text, answer.steps
