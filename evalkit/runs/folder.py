"""The run folder, `results/<task>/<model>/<key>/`, while a process writes it.

    config.yaml      the resolved configuration
    manifest.json    what the numbers are based on: code, packages, weights, data, decoder, hardware
    records.jsonl    one line for each answer, appended and flushed at once
    prefills.jsonl   one line for each prefill: its frames and its cost
    scores.csv       headline and slices         } computed from the lines above
    summary.json     scores and efficiency       }

One process works on a run at a time. A line that a crash cut short is dropped; everything before it is kept.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from evalkit.errors import RunError
from evalkit.types import Prefill, Record, VideoQuestions

from .files import slug, write_atomically, writing
from .lines import read_lines, read_prefills, to_line

_SYNC_EVERY_S = 1.0  # fsync takes milliseconds, some questions a tenth of a second


def run_key(identity: Mapping[str, Any]) -> str:
    """Hash of what can change an answer, and nothing else: the same command finds the same run."""
    return sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]


class _LineFile:
    """A file that lines are appended to. When `append` returns, the line has been passed to the kernel; it is on the
    disk within a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None
        self._synced = 0.0

    def open(self) -> None:
        self._file = self.path.open("a", encoding="utf-8")

    def cut(self, size: int) -> bool:
        """Shorten the file to `size` bytes. Returns whether it was longer."""
        if not self.path.exists() or self.path.stat().st_size <= size:
            return False
        os.truncate(self.path, size)
        return True

    def append(self, line: str) -> None:
        """Raises OSError; the file is then as it was before."""
        assert self._file is not None
        size = self.path.stat().st_size  # raises FileNotFoundError if the folder was moved
        try:
            self._file.write(line)
            self._file.flush()
            if time.monotonic() - self._synced > _SYNC_EVERY_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError:
            self._forget_buffer(size)
            raise

    def _forget_buffer(self, size: int) -> None:
        """Drop what a failed write left in the buffer and in the file."""
        assert self._file is not None
        descriptor = os.dup(self._file.fileno())
        try:
            self._file.close()
        except OSError:
            pass  # the same failure; the buffer is dropped all the same
        finally:
            os.close(descriptor)
        self._file = None
        os.truncate(self.path, size)

    def replace(self, text: str) -> None:
        """Replace the content of the file by `text`, unless it is the same."""
        if self.path.exists() and text == self.path.read_text(encoding="utf-8"):
            return
        if self._file is not None:
            self._file.close()
        try:
            write_atomically(self.path, text)
        finally:
            self.open()

    def close(self) -> None:
        if self._file is not None:
            with self._file:
                os.fsync(self._file.fileno())


class RunFolder:
    """One run folder, locked by this process. Use it as a context manager. Not thread-safe: `evalkit.recorder`
    serialises what its threads write."""

    def __init__(self, results: Path, task: str, model: str, identity: Mapping[str, Any]) -> None:
        self.key = run_key(identity)
        self.path = results / slug(task) / slug(model) / self.key
        self.identity = identity
        self.records: dict[str, Record] = {}
        self.passes: list[Prefill] = []
        self.dropped_cut_line = False
        self._records = _LineFile(self.path / "records.jsonl")
        self._prefills = _LineFile(self.path / "prefills.jsonl")
        self._lock = FileLock(str(self.path / ".lock"), timeout=0)

    def look(self) -> RunFolder:
        """Read the files without locking or writing. A run that has not begun has no files."""
        if self._records.path.is_file():
            self._read()
        return self

    def __enter__(self) -> RunFolder:
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
                sizes = self._read()
                self.dropped_cut_line = self._records.cut(sizes[0])
                self._prefills.cut(sizes[1])
                self._records.open()
                self._prefills.open()
            except BaseException:
                self._lock.release()
                raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            with writing(self.path):
                self._records.close()
                self._prefills.close()
        finally:
            self._lock.release()

    def _read(self) -> tuple[int, int]:
        """Returns how many bytes of the two files hold whole lines."""
        records, before, size = read_lines(self._records.path) if self._records.path.exists() else ([], [], 0)
        prefills, prefills_size = read_prefills(self._prefills.path)
        self.records = {record.question: record for record in records}  # a later line replaces an earlier one
        self.passes = before + prefills
        return size, prefills_size

    @property
    def prefills(self) -> dict[str, Prefill]:
        """The prefills by id; for a video that was prefilled twice, the last one."""
        return {prefill.id: prefill for prefill in self.passes}

    def answered(self) -> set[str]:
        """Ids of the questions that have a reply. Failed questions are asked again, as the cause may be
        removed by then."""
        return {question for question, record in self.records.items() if record.status != "failed"}

    def changed(self, items: Iterable[VideoQuestions]) -> list[str]:
        """Ids of the answered questions whose text, options or right answer are different in the data now."""
        questions = (q for item in items for q in item.questions)
        known = ((q, self.records.get(q.id)) for q in questions)
        return [q.id for q, record in known if record and record.question_sha256 not in ("", q.digest())]

    def pending(self, items: Iterable[VideoQuestions]) -> list[VideoQuestions]:
        """The videos with unanswered questions, each with these questions only."""
        items = list(items)
        done = self.answered() - set(self.changed(items))
        left = []
        for item in items:
            questions = tuple(q for q in item.questions if q.id not in done)
            if questions:
                left.append(VideoQuestions(item.video, questions, item.cluster, item.meta))
        return left

    def append(self, line: Record | Prefill) -> None:
        """Write one line. Raises RunError if that fails; all lines before it are kept."""
        file = self._records if isinstance(line, Record) else self._prefills
        if isinstance(line, Record):
            self.records[line.question] = line
        else:
            self.passes.append(line)
        try:
            file.append(to_line(line))
        except (FileNotFoundError, NotADirectoryError):
            raise self.rescued() from None
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
            raise RunError(
                f"an answer could not be written to {file.path}: {reason}. Everything before it is intact; "
                "make room and repeat the same command to continue."
            ) from None

    def rescued(self) -> RunError:
        """Write all lines to a new folder, as the run's own was renamed or removed. Returns the error that says so."""
        folder = Path(tempfile.mkdtemp(prefix=f"evalkit-{self.key}-"))
        for name, lines in (("records.jsonl", self.records.values()), ("prefills.jsonl", self.passes)):
            write_atomically(folder / name, "".join(map(to_line, lines)))
        return RunError(
            f"{self.path} is gone: it was renamed or removed while this run wrote to it. All {len(self.records)} "
            f"answers are in {folder}. Put records.jsonl and prefills.jsonl back into {self.path} and repeat the same "
            "command to continue."
        )

    def settle(self, order: Iterable[str]) -> list[Record]:
        """Put the records into the task's order, one for each question, so that the files do not depend on which worker
        answered first, and drop prefills that no record names. Records of questions that are no longer asked (another
        limit) stay, at the end. Returns the records of `order`. Raises OSError where the disk is full: every line was
        written before."""
        order = list(order)
        known = [self.records[q] for q in order if q in self.records]
        wanted = set(order)
        rest = [record for question, record in self.records.items() if question not in wanted]
        place = {id: n for n, id in enumerate(dict.fromkeys(record.prefill for record in known + rest))}
        self.passes = sorted((p for p in self.passes if p.id in place), key=lambda prefill: place[prefill.id])
        if not self.path.is_dir():
            raise self.rescued()
        self._prefills.replace("".join(map(to_line, self.passes)))
        self._records.replace("".join(map(to_line, known + rest)))
        return known
