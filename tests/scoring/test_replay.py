"""Real answers under every rule: the counts of correct answers that the rules are known to give."""

from __future__ import annotations

from collections import defaultdict

import pytest

from evalkit.scoring.extract import EXTRACTORS
from evalkit.scoring.grade import Choice
from tests.replay import SETTINGS, lvbench_records, needs_replay, read_lines

CORRECT = dict(zip(SETTINGS, (738, 722, 753), strict=True))


@needs_replay
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", sorted(EXTRACTORS))
def test_bare_letters_score_alike_under_every_rule(name: str, setting: str) -> None:
    records = lvbench_records(setting, Choice(name))
    assert sum(record.score or 0 for record in records) == CORRECT[setting]
    assert all(record.valid for record in records)


@needs_replay
def test_needle_cells() -> None:
    """`B) tiger`, `C)Panda`, `B)`: all 216 replies are read, and the harness's own score comes out in all 54 cells."""
    right: dict[tuple, list[bool]] = defaultdict(list)
    for row in read_lines("niah/needle_answers.jsonl.gz"):
        found = EXTRACTORS["needle"].extract(row["output"])
        assert found.ok, row["output"]
        cell = (row["log"], row["system"], row["ratio"], row["frames"], row["depth"])
        right[cell].append(found.value == row["answer"])
    cells = read_lines("niah/needle_cells.jsonl.gz")
    assert len(cells) == 54
    for row in cells:
        marks = right[row["log"], row["system"], row["ratio"], row["frames"], row["depth"]]
        assert sum(marks) / len(marks) == pytest.approx(row["score"])
