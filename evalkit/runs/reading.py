"""Reads run folders, for report, compare, rescoring and notebooks. Writes nothing and builds no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from evalkit.errors import RunError
from evalkit.text import first_line
from evalkit.types import Prefill, Record

from .lines import (
    Problem,
    read_lines,
    read_object,
    read_prefill,
    read_prefills,
    read_record,
    scan_prefills,
    scan_records,
)


@dataclass(frozen=True)
class StoredRun:
    """The files of a run folder. `summary` is None where it is missing or damaged: it can be computed again."""

    path: Path
    config: Mapping[str, Any] = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)
    summary: Mapping[str, Any] | None = field(repr=False)

    @property
    def key(self) -> str:
        return self.path.name

    @property
    def identity(self) -> Mapping[str, Any]:
        """The settings that the run key is a hash of."""
        return _mapping(self.manifest.get("identity"))

    @property
    def limit(self) -> int | None:
        """The setting `limit`: only this many questions were asked. None: all."""
        limit = self.manifest.get("limit")
        return limit if isinstance(limit, int) else None

    @property
    def source(self) -> str:
        """hub, local or mini."""
        return str(self.identity.get("source") or _mapping(self.manifest.get("data")).get("source") or "")

    @property
    def is_stale(self) -> bool:
        """Whether the summary is missing, or older than the records."""
        summary = self.path / "summary.json"
        if self.summary is None or not summary.is_file():
            return True
        return summary.stat().st_mtime_ns < (self.path / "records.jsonl").stat().st_mtime_ns

    @cached_property
    def lines(self) -> tuple[list[Record], list[Prefill], list[str]]:
        """Records (the last line of each question), prefills, and a message for each line that is damaged."""
        problems: list[str] = []
        records, before, _ = read_lines(self.path / "records.jsonl", problems.append)
        prefills, _ = read_prefills(self.path / "prefills.jsonl", problems.append)
        return list({record.question: record for record in records}.values()), before + prefills, problems

    @property
    def records(self) -> list[Record]:
        return self.lines[0]

    @property
    def passes(self) -> list[Prefill]:
        """All prefills; a video that was prefilled twice has two."""
        return self.lines[1]

    @cached_property
    def prefills(self) -> dict[str, Prefill]:
        """The prefills by id, which `Record.prefill` names."""
        return {prefill.id: prefill for prefill in self.passes}

    @property
    def problems(self) -> list[str]:
        return self.lines[2]

    def scan(self, problem: Problem) -> Iterator[tuple[Record, int]]:
        """Each record as it stands in the file, none kept, with the byte at which its line begins. A question that was
        asked again comes again: its last record counts."""
        for line in scan_records(self.path / "records.jsonl", problem):
            if line.value is not None:
                yield line.value[0], line.start

    def prefill_places(self, problem: Problem) -> dict[str, int]:
        """By id, the byte at which a line of prefills.jsonl begins."""
        found = scan_prefills(self.path / "prefills.jsonl", problem)
        return {line.value.id: line.start for line in found if line.value is not None}

    @contextmanager
    def lines_at(self) -> Iterator[LinesAt]:
        """For single lines to be read again at the places that `scan` and `prefill_places` gave."""
        with ExitStack() as stack:
            records = stack.enter_context((self.path / "records.jsonl").open("rb"))
            prefills = self.path / "prefills.jsonl"
            yield LinesAt(records, stack.enter_context(prefills.open("rb")) if prefills.is_file() else None)


@dataclass(frozen=True)
class LinesAt:
    """The open files of a run."""

    records: BinaryIO
    prefills: BinaryIO | None

    def record(self, place: int) -> tuple[Record, Prefill | None]:
        """A record, and the prefill that its line holds in format 1. Raises ValueError for a file that changed."""
        self.records.seek(place)
        return read_record(self.records.readline())

    def prefill(self, place: int) -> Prefill:
        assert self.prefills is not None, "a place of prefills.jsonl comes from that file"
        self.prefills.seek(place)
        return read_prefill(self.prefills.readline())


def read_run(path: Path) -> StoredRun:
    """Raises RunError for a folder that is no run, or whose manifest or config cannot be read."""
    if not (path / "records.jsonl").is_file():
        raise RunError(f"{path} is no run folder: it has no records.jsonl.")
    return StoredRun(path, _yaml(path / "config.yaml"), _json(path / "manifest.json"), _summary(path / "summary.json"))


def read_records(path: Path) -> list[Record]:
    """The records of a run folder, the last line of each question. Raises RunError for a damaged line."""
    records, _, _ = read_lines(_existing(path / "records.jsonl"))
    return list({record.question: record for record in records}.values())


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise RunError(f"{path.parent} is no run folder: it has no records.jsonl.")
    return path


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _json(path: Path) -> dict[str, Any]:
    """Empty where there is no file. Raises RunError for one that is no JSON object."""
    if not path.is_file():
        return {}
    try:
        return read_object(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> RunError:
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else first_line(error)
    return RunError(f"{path} is damaged ({reason}). Repeat the run's command, which writes it again.")


def _summary(path: Path) -> dict[str, Any] | None:
    """None where it is missing or damaged."""
    try:
        return _json(path) or None
    except RunError:
        return None


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    return content if isinstance(content, dict) else {}
