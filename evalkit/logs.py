"""Other harnesses' outputs as replies, and the questions of a task they belong to.

lmms-eval      *.json with a list under "logs" (older) or *_samples_*.jsonl: rows with doc_id, doc, resps, target
VLMEvalKit     *.xlsx, *.tsv, *.csv, *.json: rows with index, video, question, prediction
plain          *.jsonl, *.json, also gzipped: rows with an id and a reply
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.errors import DataError
from evalkit.tables import read_table
from evalkit.types import Clip, Question

_REPLY = ("resps", "reply", "response", "output", "prediction", "pred", "raw_output", "model_output", "filtered_resps")
_ID = ("question_id", "questionID", "uid", "qid", "id", "uuid")
_VIDEO = ("videoID", "video_name", "video_path", "video_id", "video", "key", "vid")
_TEXT = ("question", "caption", "sentence", "query")


@dataclass(frozen=True)
class Logged:
    """One logged reply and whatever its row says of its question. `values` is the row with its document unfolded."""

    number: int
    reply: str
    values: Mapping[str, Any]
    repeats: int = 1


@dataclass
class Joined:
    """Question id -> reply, and what did not fit."""

    replies: dict[str, Logged] = field(default_factory=dict)
    unmatched: list[Logged] = field(default_factory=list)
    conflicts: list[Logged] = field(default_factory=list)


def read_log(path: Path) -> list[Logged]:
    """The replies of a log file, in its order. Raises DataError naming the file and the row."""
    if not path.is_file():
        raise DataError(f"{path} does not exist.")
    logged = [_logged(path, number, row) for number, row in enumerate(_rows(path), 1)]
    if not logged:
        raise DataError(f"{path} holds no replies.")
    return logged


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix == ".json":
        yield from _json_rows(path)
    elif suffix == ".xlsx":
        yield from _xlsx_rows(path)
    else:
        yield from (row.values for row in read_table(path))


def _json_rows(path: Path) -> Iterable[Mapping[str, Any]]:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            content = json.load(file)
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}).") from None
    if isinstance(content, dict) and isinstance(content.get("logs"), list):
        content = content["logs"]
    elif isinstance(content, dict) and all(isinstance(v, str) for v in content.values()):
        content = [{"id": key, "reply": value} for key, value in content.items()]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError(f'{path}: expected a list of rows, a "logs" list (lmms-eval), or a mapping of id to reply.')
    return content


def _xlsx_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    from openpyxl import load_workbook

    sheet = load_workbook(path, read_only=True, data_only=True).worksheets[0]
    lines = sheet.iter_rows(values_only=True)
    header = [str(name) for name in next(lines, ())]
    for line in lines:
        yield dict(zip(header, line, strict=False))


def _logged(path: Path, number: int, row: Mapping[str, Any]) -> Logged:
    doc = row.get("doc")
    document: Mapping[str, Any] = doc if isinstance(doc, dict) else {}
    column = next((name for name in _REPLY if row.get(name) is not None), None)
    if column is None:
        if any(name in row for name in _REPLY):
            return Logged(number, "", {**document, **row})  # an empty cell: the model said nothing
        raise DataError(
            f"{path}, row {number}: no reply. Expected one of the columns {', '.join(_REPLY)}; found {', '.join(row)}."
        )
    replies = list(_flat(row[column]))
    return Logged(number, replies[0] if replies else "", {**row, **document}, len(replies))


def _flat(value: Any) -> Iterator[str]:
    """lmms-eval nests replies: [["B"]], or ["B", "B"] where ranks were padded."""
    if isinstance(value, list):
        for part in value:
            yield from _flat(part)
    else:
        yield str(value)


class Joiner:
    """Finds the question of a logged row: by its id, else by video and text, else by its place in the file.

    The place counts only where the log has exactly the task's questions and no two rows contradict their gold.
    """

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.questions = [(clip, q) for clip in clips for q in clip.questions]
        self.ids = {q.id: q for _, q in self.questions}
        self.texts: dict[tuple[str, str], list[Question]] = {}
        for clip, q in self.questions:
            for name in {clip.video.id, clip.video.path.name}:
                found = self.texts.setdefault((_stem(name), _plain(q.text)), [])
                if q not in found:
                    found.append(q)

    def join(self, logged: Sequence[Logged]) -> Joined:
        """Each question's first reply; a second, different one is a conflict."""
        out = Joined()
        find = self._by_id if self._ids_fit(logged) else self._by_text
        used: dict[tuple[str, str], int] = {}
        for row in logged:
            question = find(row, used)
            if question is None:
                out.unmatched.append(row)
            elif question.id in out.replies:
                if out.replies[question.id].reply != row.reply:
                    out.conflicts.append(row)
            else:
                out.replies[question.id] = row
        return out

    def _ids_fit(self, logged: Sequence[Logged]) -> bool:
        """Whether the log's ids are the task's: most are known, and no text contradicts them."""
        known = [row for row in logged if self._by_id(row, {}) is not None]
        return len(known) > len(logged) / 2 and all(self._agrees(row) for row in known)

    def _agrees(self, row: Logged) -> bool:
        question, text = self._by_id(row, {}), _first(row.values, _TEXT)
        return text is None or question is None or _plain(text).startswith(_plain(question.text)[:40])

    def _by_id(self, row: Logged, used: dict[tuple[str, str], int]) -> Question | None:
        for name in _ID:
            value = row.values.get(name)
            if value is not None and str(value) in self.ids:
                return self.ids[str(value)]
        return None

    def _by_text(self, row: Logged, used: dict[tuple[str, str], int]) -> Question | None:
        text = _first(row.values, _TEXT)
        if text is None:
            return None
        for name in _VIDEO:
            if row.values.get(name) is None:
                continue
            key = (_stem(str(row.values[name])), _plain(text))
            if candidates := self.texts.get(key):
                return _same_options(row, candidates) or _next(candidates, key, used)
        return None


def _next(candidates: list[Question], key: tuple[str, str], used: dict[tuple[str, str], int]) -> Question:
    """Of questions with the same text, the one that is next in order."""
    place = used.get(key, 0)
    used[key] = place + 1
    return candidates[place % len(candidates)]


def _same_options(row: Logged, candidates: list[Question]) -> Question | None:
    options = row.values.get("candidates") or row.values.get("options")
    if len(candidates) == 1 or not isinstance(options, list):
        return candidates[0] if len(candidates) == 1 else None
    same = [q for q in candidates if [str(o) for o in options] == list(q.options)]
    return same[0] if len(same) == 1 else None


def _first(values: Mapping[str, Any], names: Iterable[str]) -> str | None:
    return next((str(values[name]) for name in names if values.get(name) is not None), None)


def _stem(name: str) -> str:
    """A video's name without folders and the usual endings."""
    return re.sub(r"\.(mp4|mkv|webm|avi|mov)$", "", name.replace("\\", "/").rsplit("/", 1)[-1], flags=re.IGNORECASE)


def _plain(text: str) -> str:
    """The stem of a question: without option lines, white space collapsed."""
    stem = re.split(r"\n\s*\(?A[).]", text, maxsplit=1)[0]
    return " ".join(stem.split())
