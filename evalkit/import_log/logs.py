"""Reads the outputs of other harnesses as rows: a reply, and the columns about its question.

lmms-eval      *.json with a list under "logs" (older) or *_samples_*.jsonl: rows with doc_id, doc, resps, target
VLMEvalKit     *.xlsx, *.tsv, *.csv, *.json: rows with index, video, question, prediction
plain          *.jsonl, *.json: rows with an id and a reply, or one mapping of id to reply; Video-MME's nested results

Each may be gzipped, and in UTF-8 or UTF-16. `matching` finds the question that a row answers.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from evalkit.errors import DataError
from evalkit.tables import read_table

_REPLY = (
    *("resps", "reply", "response", "output", "prediction", "pred", "raw_output", "model_output", "model_answer"),
    *("generated_text", "completion", "filtered_resps", "option", "text"),
)
"""Columns that may hold a reply; the one with the least processed text first."""
_PROMPT = ("input", "prompt")
_LONGEST_CELL = 1 << 27
_GZIP = b"\x1f\x8b"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class LogFile:
    """The content of a log file. It is read once."""

    path: Path
    content: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return _unicode_name(self.path)

    @cached_property
    def sha256(self) -> str:
        return sha256(self.content).hexdigest()


@dataclass(frozen=True)
class LogRow:
    """One row of a log.

    `number`: counted from 1. `reply`: the model's text. `values`: the row's columns, with those of the document in it.
    `others`: further replies in the same row that differ from the first. `prompt`: the text that was asked, where the
    log has it. `damaged`: the reply held halves of surrogate pairs, which are replaced by U+FFFD.
    """

    path: Path
    number: int
    reply: str
    values: Mapping[str, Any]
    others: tuple[str, ...] = ()
    prompt: str | None = None
    damaged: bool = False

    @property
    def place(self) -> str:
        return f"{_unicode_name(self.path)}, row {self.number}"


def _unicode_name(path: Path) -> str:
    """The file's name; bytes of it that are not UTF-8 are replaced."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def read_files(paths: Iterable[Path]) -> list[LogFile]:
    """The files in an order that depends on their names and contents alone. Raises DataError for one that cannot be
    read."""
    return sorted((LogFile(path, _content(path)) for path in paths), key=lambda file: (file.name, file.sha256))


def read_log(file: LogFile) -> list[LogRow]:
    """The rows of a log file, in its order. Raises DataError naming the file and the row."""
    try:
        rows = [_row(file.path, number, row) for number, row in enumerate(_values(file), 1)]
    except RecursionError:
        raise DataError(f"{file.path} is nested too deeply to be a log.") from None
    if not rows:
        raise DataError(f"{file.path} holds no replies.")
    return rows


# Files ---------------------------------------------------------------------------------------------------------------


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise DataError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None


def _values(file: LogFile) -> Iterator[Mapping[str, Any]]:
    path = file.path
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix == ".json":
        yield from _json_rows(path, _text(file))
    elif suffix == ".jsonl":
        yield from _json_lines(path, _text(file))
    elif suffix in (".tsv", ".csv"):
        yield from _csv_rows(path, _text(file), "\t" if suffix == ".tsv" else ",")
    elif suffix == ".xlsx":
        yield from _xlsx_rows(path, _unzipped(file))
    else:
        yield from (row.values for row in read_table(path))


def _unzipped(file: LogFile) -> bytes:
    if not file.content.startswith(_GZIP):
        return file.content
    try:
        return gzip.decompress(file.content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file.path} is a damaged gzip file ({error}). Copy it again.") from None


def _text(file: LogFile) -> str:
    content = _unzipped(file)
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{file.path} cannot be read: it is not text in {encoding} ({error.reason}).") from None


def _json_lines(path: Path, text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: JSON may hold other line ends in a string
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path} cannot be read (line {number}: {error}).") from None
            if not isinstance(row, dict):
                raise DataError(f"{path} cannot be read (line {number}: expected an object).")
            yield row


def _json_rows(path: Path, text: str) -> Iterator[Mapping[str, Any]]:
    try:
        content = json.loads(text)
    except ValueError as error:
        try:
            content = list(_json_lines(path, text))  # JSON lines under another name
        except DataError:
            raise DataError(f"{path} is not JSON ({error}).") from None
    lists = [value for value in content.values() if _is_rows(value)] if isinstance(content, dict) else []
    if len(lists) == 1:  # lmms-eval calls it "logs", others "results" or "data"
        content = lists[0]
    elif isinstance(content, dict):
        content = [_entry(key, value) for key, value in content.items()]
    if content != [] and not _is_rows(content):
        raise DataError(f'{path}: expected a list of rows, a "logs" list (lmms-eval), or a mapping of id to reply.')
    return (part for row in content for part in _questions_of(row))


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _entry(key: str, value: Any) -> Any:
    """A reply under its id."""
    if isinstance(value, dict):
        return {"id": key, **value}
    if not isinstance(value, str):
        return value
    return {**(_grounding(key) or {"id": key}), "reply": value}


def _grounding(key: Any) -> dict[str, Any]:
    """The parts of lmms-eval's id of a temporal grounding, `video>>>caption>>>timestamp`; nothing for other ids."""
    if not isinstance(key, str) or key.count(">>>") < 2:
        return {}
    video, _, rest = key.partition(">>>")
    caption, _, timestamp = rest.rpartition(">>>")
    return {"video": video, "caption": caption, "timestamp": timestamp}


def _questions_of(row: dict[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The rows of a video's questions, if its row contains them as a list; else the row itself."""
    questions = row.get("questions")
    if not isinstance(questions, list) or not all(isinstance(question, dict) for question in questions):
        yield row
        return
    shared = {key: value for key, value in row.items() if key != "questions"}
    yield from ({**shared, **question} for question in questions)


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(_LONGEST_CELL)
    try:
        for number, row in enumerate(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter), 1):
            if any(row.pop(None, None) or ()):
                raise DataError(f"{path}, row {number}: more cells than the header names. Is a cell quoted wrongly?")
            yield row
    except csv.Error as error:
        raise DataError(f"{path} cannot be read ({error}).") from None


def _xlsx_rows(path: Path, content: bytes) -> list[Mapping[str, Any]]:
    from openpyxl import load_workbook

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles
            sheet = load_workbook(io.BytesIO(content), read_only=True, data_only=True).worksheets[0]
            header, *lines = list(sheet.iter_rows(values_only=True)) or [()]
    except Exception as error:  # its parsers of zip, compression and XML raise many types for damaged bytes
        raise DataError(
            f"{path} is not an Excel table, or a damaged one ({type(error).__name__}: {error}). Copy it again."
        ) from None
    names = [str(name) for name in header]
    return [dict(zip(names, line, strict=False)) for line in lines if any(cell is not None for cell in line)]


# Rows ----------------------------------------------------------------------------------------------------------------


def _row(path: Path, number: int, row: Mapping[str, Any]) -> LogRow:
    column = next((name for name in _REPLY if row.get(name) is not None), None)
    if column is None and not any(name in row for name in _REPLY):
        raise DataError(
            f"{path}, row {number}: no reply. Expected one of the columns {', '.join(_REPLY)}; found {', '.join(row)}."
        )
    replies = list(_texts(row[column])) if column else []  # an empty cell is an empty reply
    first, *more = replies or [""]
    clean = _SURROGATE.sub("\ufffd", first)
    return LogRow(
        path,
        number,
        clean,
        _unfolded(row),
        tuple(reply for reply in more if reply != first),
        _prompt(row),
        damaged=clean != first,
    )


def _prompt(row: Mapping[str, Any]) -> str | None:
    """The text that was asked. lmms-eval has it as the first argument of its request."""
    found = next((row[name] for name in _PROMPT if isinstance(row.get(name), str)), None)
    request = row.get("arguments")
    while found is None and isinstance(request, (list, dict)) and request:
        request = request[0] if isinstance(request, list) else next(iter(request.values()))
        found = request if isinstance(request, str) else None
    return None if found is None else _SURROGATE.sub("\ufffd", found)


def _unfolded(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the row's document, and those of the row and its metrics that the document does not have."""
    parts = [value for key, value in row.items() if key != "doc" and isinstance(value, dict)]
    ids = [_grounding(key) for part in parts for key in (*part, part.get("query"))]
    doc = row.get("doc")
    values: dict[str, Any] = {}
    for part in (*parts, *ids, row, doc if isinstance(doc, dict) else {}):
        values.update({key: value for key, value in part.items() if value is not None})
    return values


def _texts(value: Any) -> Iterator[str]:
    """The replies in a cell. lmms-eval nests them: [["B"]], or ["B", "B"] if a rank repeated a document."""
    waiting: list[Any] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(reversed(part))
        else:
            yield "" if part is None or part != part else str(part)  # NaN: an empty cell of a table


def places(rows: Sequence[LogRow]) -> str:
    """File and number of the first rows, for messages."""
    return "; ".join(row.place for row in rows[:5]) + ("; ..." if len(rows) > 5 else "")
