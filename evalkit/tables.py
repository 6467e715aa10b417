"""Annotation tables: JSON, JSON lines (also gzipped), parquet, Arrow, CSV and TSV files as rows of plain values.

Each value is checked where it is read, by the methods of `Row`: published tables mix types, and converting them
silently would change questions or answers. A byte order mark at the start of a file is skipped.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from evalkit.errors import DataError

MOST_OPTIONS = 26
"""Options are named by the letters A to Z."""
_NAME_BYTES = 255
"""The longest file name that common file systems can store."""
_SHOWN = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, with its file and its number (from 1) for messages. Every method raises DataError.

    `problem`: why the row could not be read at all; any access raises it. `id_types`: shared by the rows of a table;
    the type and the first row of each id column.
    """

    values: dict[str, Any]
    path: Path
    number: int
    problem: str = ""
    id_types: dict[str, tuple[type, int]] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, column: str) -> Any:
        """The value of a column that must be there, of any type."""
        if self.problem:
            raise DataError(f"{self.path}, row {self.number}: {self.problem}.")
        if column not in self.values:
            columns = ", ".join(map(shown, self.values))
            raise DataError(f'{self.path}, row {self.number}: there is no column "{column}". It has: {columns}.')
        return self.values[column]

    def get(self, column: str, default: Any = None) -> Any:
        """The value of a column, of any type; `default` where the column or its value is missing."""
        value = self.values.get(column)
        return default if value is None else value

    def text(self, column: str) -> str:
        """A text that can be written as UTF-8."""
        return self._checked(column, self[column])

    def text_or(self, column: str, default: str) -> str:
        """The same; `default` where the column or its value is missing."""
        return default if self.get(column) is None else self.text(column)

    def id(self, column: str) -> str:
        """An identifier: a text, or a whole number, which becomes its digits. The ids of one column are of one type:
        the number 7 and the text "7" would become the same id."""
        value = self[column]
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise self.error(column, f"expected an id (a text or a whole number), found {shown(value)}")
        kind, first = self.id_types.setdefault(column, (type(value), self.number))
        if kind is not type(value):
            names = {int: "a number", str: "a text"}
            raise self.error(
                column, f"the id {shown(value)} is {names[type(value)]}, in row {first} it is {names[kind]}"
            )
        return self._checked(column, value) if isinstance(value, str) else str(value)

    def file_name(self, column: str, suffix: str = "") -> str:
        """The name of a file, with the folders it stands in, below the folder of the benchmark. `suffix`: what will
        be appended to it. A whole number becomes its digits."""
        value = self[column]
        name = str(value) if type(value) is int else self.text(column)
        parts = name.split("/")
        if not parts[-1] or parts[0] == "" or ".." in parts or "\0" in name:
            raise self.error(column, f"expected the name of a file below the benchmark's folder, found {shown(name)}")
        longest = max(len(part.encode()) for part in (*parts[:-1], parts[-1] + suffix))
        if longest > _NAME_BYTES:
            raise self.error(column, f"a file name of {longest} bytes is longer than {_NAME_BYTES}: {shown(name)}")
        return name

    def texts(self, column: str) -> tuple[str, ...]:
        """A list of texts; numbers, as in counting questions, become text."""
        value = self[column]
        if not isinstance(value, list) or not value:
            raise self.error(column, "the list is empty" if value == [] else f"expected a list, found {shown(value)}")
        return tuple(self._plain(column, entry) for entry in value)

    def options(self, column: str) -> tuple[str, ...]:
        """The options of a question: a list of texts, at most one for each letter from A to Z."""
        options = self.texts(column)
        if len(options) > MOST_OPTIONS:
            raise self.error(column, f"{len(options)} options, there are letters for {MOST_OPTIONS}")
        return options

    def seconds(self, column: str) -> float | None:
        """A duration or a time from 0; None where there is none."""
        value = self.get(column)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise self.error(column, f"expected seconds, found {shown(value)}")
        return float(value)

    def error(self, column: str, what: str) -> DataError:
        """The error for a value of this row."""
        return DataError(f'{self.path}, row {self.number}, column "{column}": {what}.')

    def _plain(self, column: str, value: Any) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        return self._checked(column, value)

    def _checked(self, column: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self.error(column, f"expected text, found {shown(value)}")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise self.error(
                    column,
                    f"character {error.start} is half of a surrogate pair, which no file can store: {shown(value)}",
                ) from None
        return value


def shown(value: object) -> str:
    """A value in a message: as Python prints it, cut after 80 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply; a number of too many digits
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


class BadRows(DataError):
    """Rows of a table that cannot be read. `problems`: one message for each."""

    def __init__(self, problems: list[str], rows: int) -> None:
        listed = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
        more = "\n  ..." if len(problems) > _SHOWN else ""
        count = f"{len(problems)} of {rows} row{'s' if rows > 1 else ''}"
        super().__init__(
            f"{count} cannot be read:{listed}{more}\nCorrect the file or get it again, or set task.allow_missing=true "
            "to leave such rows out (their questions lower the coverage)."
        )
        self.problems, self.rows = problems, rows

    def __reduce__(self) -> tuple[type[BadRows], tuple[list[str], int]]:
        return type(self), (self.problems, self.rows)


def read_rows(rows: Iterable[Row], read: Callable[[Row], T], skip_bad: bool = False) -> Iterator[T]:
    """What `read` makes of each row. Rows for which it raises DataError are collected, and raised together as BadRows
    behind the last row. `skip_bad` (task.allow_missing): they are reported on stderr and left out, unless none can be
    read."""
    bad: list[str] = []
    count = 0
    for row in rows:
        count += 1
        try:
            made = read(row)
        except DataError as error:
            bad.append(str(error))
            continue
        yield made
    if not bad:
        return
    if not skip_bad or len(bad) == count:
        raise BadRows(bad, count)
    _note(f"note: {len(bad)} of {count} rows cannot be read and are left out: {bad[0]}")


@cache
def _note(message: str) -> None:
    """One message on stderr, once: a table is read several times in a run."""
    print(message, file=sys.stderr, flush=True)


def read_table(path: Path) -> list[Row]:
    """All rows of a table file. A single row that cannot be read has its `problem`. Raises DataError for a file that
    is missing, damaged or of an unknown kind."""
    reader = _READERS.get(_kind(path))
    if reader is None:
        raise DataError(f"{path}: unknown kind of table; evalkit reads {', '.join(_READERS)}.")
    id_types: dict[str, tuple[type, int]] = {}
    with readable(path):
        return [
            Row({}, path, number, values, id_types)
            if isinstance(values, str)
            else Row(values, path, number, "", id_types)
            for number, values in enumerate(reader(path), 1)
        ]


def table_columns(path: Path) -> set[str]:
    """The columns of a table's first row, found without reading all of it; empty where it has none or is damaged."""
    try:
        first = next(iter(_FIRST_ROWS[_kind(path)](path)), None)
    except (DataError, KeyError, *_DAMAGE):
        return set()
    return set(first) if isinstance(first, dict) else set()


def read_json(path: Path) -> Any:
    """The content of a JSON file, of any shape. Raises DataError for one that is missing or damaged."""
    with readable(path):
        return json.loads(path.read_text(encoding="utf-8-sig"))


_DAMAGE = (ValueError, OSError, EOFError, zlib.error, csv.Error, RecursionError, OverflowError)
"""What the readers of damaged files raise: Unicode, JSON and Arrow errors are ValueErrors."""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What goes wrong while the file is read becomes a DataError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder.") from None
    except RecursionError:
        raise DataError(f"{path} cannot be read: its values are nested too deeply.") from None
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno:
            raise DataError(f"{path} cannot be read ({error.strerror}).") from None
        raise DataError(f"{path} cannot be read ({error}). Is the download complete?") from None


Values = dict[str, Any] | str
"""A row; or why it cannot be read."""
Reader = Callable[[Path], Iterable[Values]]


def _kind(path: Path) -> str:
    return "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix


def _object(value: Any) -> Values:
    return value if isinstance(value, dict) else f"expected an object, found {shown(value)}"


def _json(path: Path) -> Iterator[Values]:
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, list):
        raise ValueError("expected a list of objects")
    return map(_object, content)


def _first_of_json(path: Path) -> Iterator[Values]:
    """Without parsing what follows the first row."""
    text = path.read_text(encoding="utf-8-sig")
    start = text.find("{")
    if text[:start].strip() == "[":
        yield json.JSONDecoder().raw_decode(text, start)[0]


def _jsonl(path: Path) -> Iterator[Values]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as file:
        yield from (_of_line(line) for line in file if line.strip())


def _of_line(line: str) -> Values:
    try:
        return _object(json.loads(line))
    except ValueError as error:
        return f"it cannot be read ({error}); is the download complete?"
    except RecursionError:
        return "its values are nested too deeply"


def _parquet(path: Path) -> Iterator[Values]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except ArrowException as error:
        raise ValueError(str(error)) from None


def _arrow(path: Path) -> Iterator[Values]:
    """A table in the cache of the `datasets` library, read in place."""
    from datasets import Dataset
    from pyarrow import ArrowException

    try:
        yield from Dataset.from_file(str(path))
    except ArrowException as error:
        raise ValueError(str(error)) from None


def _csv(path: Path) -> Iterator[Values]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        header = next(lines, [])
        for line in lines:
            if len(line) == len(header):
                yield dict(zip(header, line, strict=True))
            elif line:
                yield f"it has {len(line)} fields, the header has {len(header)}"


_READERS: dict[str, Reader] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".csv": _csv,
    ".tsv": _csv,
}
_FIRST_ROWS: dict[str, Reader] = {**_READERS, ".json": _first_of_json}
