"""Other harnesses' outputs as replies.

lmms-eval      *.json with a list under "logs" (older) or *_samples_*.jsonl: rows with doc_id, doc, resps, target
VLMEvalKit     *.xlsx, *.tsv, *.csv, *.json: rows with index, video, question, prediction
plain          *.jsonl, *.json: rows with an id and a reply, or one mapping of id to reply; Video-MME's nested results

All of them also gzipped. Which question a row answers is found in `joins`.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.errors import DataError
from evalkit.tables import read_table

_REPLY = (
    *("resps", "reply", "response", "output", "prediction", "pred", "raw_output", "model_output", "model_answer"),
    *("generated_text", "completion", "filtered_resps", "option", "text"),
)
"""Columns that hold a reply, the rawest first."""
_LONGEST_CELL = 1 << 27


@dataclass(frozen=True)
class Logged:
    """One logged reply and whatever its row says of its question. `values`: the row with its document unfolded.
    `others`: further replies of the same row that differ from the first."""

    path: Path
    number: int
    reply: str
    values: Mapping[str, Any]
    others: tuple[str, ...] = field(default=())

    @property
    def place(self) -> str:
        return f"{self.path.name}, row {self.number}"


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
    elif suffix in (".tsv", ".csv"):
        yield from _csv_rows(path, "\t" if suffix == ".tsv" else ",")
    else:
        yield from (row.values for row in read_table(path))


def _opened(path: Path) -> Any:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")


def _json_rows(path: Path) -> Iterable[Mapping[str, Any]]:
    try:
        with _opened(path) as file:
            text = file.read()
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is not JSON ({error}).") from None
    try:
        content = json.loads(text)
    except ValueError as error:
        try:
            content = [json.loads(line) for line in text.splitlines() if line.strip()]  # JSON lines under another name
        except ValueError:
            raise DataError(f"{path} is not JSON ({error}).") from None
    lists = [value for value in content.values() if _is_rows(value)] if isinstance(content, dict) else []
    if len(lists) == 1:  # lmms-eval calls it "logs", others "results" or "data"
        content = lists[0]
    elif isinstance(content, dict):
        content = [_entry(key, value) for key, value in content.items()]
    if content != [] and not _is_rows(content):
        raise DataError(f'{path}: expected a list of rows, a "logs" list (lmms-eval), or a mapping of id to reply.')
    return (part for row in content for part in _unnested(row))


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _entry(key: str, value: Any) -> Any:
    """A reply under its id."""
    if isinstance(value, dict):
        return {"id": key, **value}
    if not isinstance(value, str):
        return value
    return {**(_grounded(key) or {"id": key}), "reply": value}


def _grounded(key: Any) -> dict[str, Any]:
    """What lmms-eval's id of a temporal grounding says, `video>>>caption>>>timestamp`; nothing of other ids."""
    if not isinstance(key, str) or key.count(">>>") < 2:
        return {}
    video, _, rest = key.partition(">>>")
    caption, _, timestamp = rest.rpartition(">>>")
    return {"video": video, "caption": caption, "timestamp": timestamp}


def _unnested(row: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The questions of a video, where they stand inside its row."""
    questions = row.get("questions")
    if not isinstance(questions, list) or not all(isinstance(question, dict) for question in questions):
        yield row
        return
    shared = {key: value for key, value in row.items() if key != "questions"}
    yield from ({**shared, **question} for question in questions)


def _csv_rows(path: Path, delimiter: str) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(_LONGEST_CELL)
    try:
        with _opened(path) as file:
            yield from csv.DictReader(file, delimiter=delimiter)
    except (csv.Error, ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}).") from None


def _xlsx_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    from zipfile import BadZipFile

    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    with path.open("rb") as file:
        try:
            sheet = load_workbook(file, read_only=True, data_only=True).worksheets[0]
        except (BadZipFile, InvalidFileException, KeyError, OSError) as error:
            raise DataError(f"{path} is no Excel table ({error}).") from None
        lines = sheet.iter_rows(values_only=True)
        header = [str(name) for name in next(lines, ())]
        for line in lines:
            if any(cell is not None for cell in line):
                yield dict(zip(header, line, strict=False))


def _logged(path: Path, number: int, row: Mapping[str, Any]) -> Logged:
    column = next((name for name in _REPLY if row.get(name) is not None), None)
    if column is None and not any(name in row for name in _REPLY):
        raise DataError(
            f"{path}, row {number}: no reply. Expected one of the columns {', '.join(_REPLY)}; found {', '.join(row)}."
        )
    replies = list(_flat(row[column])) if column else []  # an empty cell: the model said nothing
    first, *more = replies or [""]
    return Logged(path, number, first, _unfolded(row), tuple(reply for reply in more if reply != first))


def _unfolded(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its document in it; what the row itself or a metric says counts where the document is silent."""
    parts = [value for key, value in row.items() if key != "doc" and isinstance(value, dict)]
    ids = [_grounded(key) for part in parts for key in (*part, part.get("query"))]
    doc = row.get("doc")
    values: dict[str, Any] = {}
    for part in (*parts, *ids, row, doc if isinstance(doc, dict) else {}):
        values.update({key: value for key, value in part.items() if value is not None})
    return values


def _flat(value: Any) -> Iterator[str]:
    """lmms-eval nests replies: [["B"]], or ["B", "B"] where ranks were padded."""
    if isinstance(value, list):
        for part in value:
            yield from _flat(part)
    else:
        yield "" if value is None or value != value else str(value)  # NaN: an empty cell of a table
