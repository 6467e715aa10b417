"""The run folder: `results/<task>/<model>/<key>/`, and the rule that nothing in it is ever lost.

    config.yaml      the resolved configuration
    manifest.json    what the numbers rest on: code, packages, weights, data, decoder, hardware
    records.jsonl    one line an answer, appended and flushed at once; everything below is a view of it
    scores.csv       headline and slices
    summary.json     scores and efficiency, for the pages that show many runs

One process works on a run at a time. A line that was torn by a crash is dropped; the rest is continued.
"""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from evalkit.errors import RunError
from evalkit.types import Record, VideoQuestions

_SYNC_EVERY_S = 1.0  # a forced write takes milliseconds, some questions a tenth of a second
_RECORD_FIELDS = {f.name for f in fields(Record)}


def run_key(identity: Mapping[str, Any]) -> str:
    """Hash of what can change an answer, and nothing else: the same command finds the same run."""
    return sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]


class Run:
    """One run folder, held by this process. Use as a context manager."""

    def __init__(self, results: Path, task: str, model: str, identity: Mapping[str, Any]) -> None:
        self.key = run_key(identity)
        self.path = results / slug(task) / slug(model) / self.key
        self.identity = identity
        self.records: dict[str, Record] = {}
        self.dropped_torn_line = False
        self._file: TextIO | None = None
        self._synced = 0.0
        self._lock = FileLock(str(self.path / ".lock"), timeout=0)

    def look(self) -> Run:
        """Read what is there, without the lock and without leaving a trace; of a run not yet begun, nothing is."""
        if self._records_path.is_file():
            self.records = {record.question: record for record in parse_records(self._records_path)[0]}
        return self

    def __enter__(self) -> Run:
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise RunError(
                    f"another process is working on {self.path}. Wait for it, or stop it; the same command then "
                    "continues."
                ) from None
            try:
                self._read()
                self._file = self._records_path.open("a", encoding="utf-8")
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if self._file is not None:
                with writing(self.path), self._file:
                    os.fsync(self._file.fileno())
        finally:
            self._lock.release()

    @property
    def _records_path(self) -> Path:
        return self.path / "records.jsonl"

    def _read(self) -> None:
        if not self._records_path.exists():
            return
        records, good = parse_records(self._records_path)
        if good < self._records_path.stat().st_size:  # torn by a crash: only ever the last line
            self.dropped_torn_line = True
            os.truncate(self._records_path, good)
        self.records = {record.question: record for record in records}  # a later try at a question replaces an earlier

    def answered(self) -> set[str]:
        """Ids of the questions that have a reply. Failed ones are asked again: their cause may be gone."""
        return {question for question, record in self.records.items() if record.status != "failed"}

    def exchanged(self, items: Iterable[VideoQuestions]) -> list[str]:
        """Ids of the questions that were answered when the data asked something else, or held something else right."""
        questions = (q for item in items for q in item.questions)
        known = ((q, self.records.get(q.id)) for q in questions)
        return [q.id for q, record in known if record and record.question_sha256 not in ("", q.digest())]

    def pending(self, items: Iterable[VideoQuestions]) -> list[VideoQuestions]:
        """The videos that have something left to ask, with only those questions."""
        items = list(items)
        done = self.answered() - set(self.exchanged(items))
        left = []
        for item in items:
            questions = tuple(q for q in item.questions if q.id not in done)
            if questions:
                left.append(VideoQuestions(item.video, questions, item.cluster, item.meta))
        return left

    def append(self, record: Record) -> None:
        """Write one line. The kernel has it then, whatever becomes of this process; against the end of the machine,
        lines are forced to the disk once a second. On failure the file is left as it was before."""
        assert self._file is not None
        size = self._records_path.stat().st_size
        try:
            self._file.write(to_line(record))
            self._file.flush()
            if time.monotonic() - self._synced > _SYNC_EVERY_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            self._forget_buffer(size)
            reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
            raise RunError(
                f"an answer could not be written to {self._records_path}: {reason}. Everything before it is intact; "
                "make room and repeat the same command to continue."
            ) from None
        self.records[record.question] = record

    def _forget_buffer(self, size: int) -> None:
        """Drop what a failed write left in the buffer and in the file."""
        assert self._file is not None
        descriptor = os.dup(self._file.fileno())
        try:
            self._file.close()
        except OSError:
            pass  # the same failure again, on closing: the buffer is gone, which is what is wanted
        finally:
            os.close(descriptor)
        self._file = None
        os.truncate(self._records_path, size)

    def settle(self, order: Iterable[str]) -> list[Record]:
        """Put the records into the task's order, one a question, so that the file does not depend on who answered
        first. Records of questions that are no longer asked (another limit) stay, at the end."""
        assert self._file is not None
        order = list(order)
        known = [self.records[q] for q in order if q in self.records]
        wanted = set(order)
        rest = [record for question, record in self.records.items() if question not in wanted]
        text = "".join(to_line(record) for record in known + rest)
        if text != self._records_path.read_text(encoding="utf-8"):
            self._file.close()
            try:
                write_atomically(self._records_path, text)
            finally:
                self._file = self._records_path.open("a", encoding="utf-8")
        return known


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What the disk refuses is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"results cannot be written to {folder} ({error.strerror}). Make room, or name another folder: "
            "results=<folder>."
        ) from None


def to_line(record: Record) -> str:
    return json.dumps(asdict(record), ensure_ascii=False, allow_nan=False) + "\n"


def parse_records(path: Path) -> tuple[list[Record], int]:
    """The records of a file and the number of bytes they take; a torn last line is left out.

    Raises RunError for a line in the middle that is not a record: that is damage, not a crash.
    """
    records, good = [], 0
    with path.open("rb") as file:
        lines = file.readlines()
    for number, line in enumerate(lines, 1):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("torn")
            values = json.loads(line)
            records.append(Record(**{k: v for k, v in values.items() if k in _RECORD_FIELDS}))
        except (ValueError, TypeError):
            if number == len(lines):
                break
            raise RunError(
                f"{path}, line {number} is not a record: the file was damaged. Remove that line to go on without it; "
                "its question will be asked again."
            ) from None
        good += len(line)
    return records, good


def read_records(run: Path) -> list[Record]:
    """The records of a run folder, the last try at each question."""
    path = run / "records.jsonl"
    if not path.is_file():
        raise RunError(f"{run} is no run folder: it has no records.jsonl.")
    return list({record.question: record for record in parse_records(path)[0]}.values())


def write_atomically(path: Path, text: str) -> None:
    """Readers see the old file or the new one, never half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes 0600; results are for colleagues too
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def slug(name: str) -> str:
    """A folder name: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "unnamed"
