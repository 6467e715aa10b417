"""Selections that were computed beforehand: the files of github.com/VectorSpaceLab/Video-XL
(Video-XL-2/eval/lvu/w_chunk_bilevel/selected_infos).

    {category: null | {"config": {"selected_chunk_size", "compression", ...},
                       "selected_unit_indices": {"<video file name>_<question>": [unit, ...]}}}

or JSON lines `{"question_id", "key", "config": [topk, chunk size, compression, oracle], "units"}`. A unit is 8 frames,
two groups. Those files use another chunk size and another number of chunks for each category of a benchmark: they are
tuned on its labels.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.errors import ConfigError, DataError, ModelError

from ..shared.relevance import RelevanceMethod, RelevanceQuery, Selection, ends

UNIT_GROUPS = 2


@dataclass(frozen=True)
class Entry:
    """One question's row."""

    units: tuple[int, ...]
    chunk_groups: int
    compression: int


@dataclass
class SelectionFile(RelevanceMethod):
    """`on_miss`: "error" raises ModelError(no_selection) for a question without a row; "dense" reads everything, and
    says so in the reply (the authors' code moreover prefills such questions without chunk windows). A key with rows
    that differ counts as missing: nothing tells which is meant. `chunk_groups` and `compression` override its own."""

    file: str
    on_miss: str = "error"
    chunk_groups: int | None = None
    compression: int | None = None

    def __post_init__(self) -> None:
        self.entries: dict[str, set[Entry]] = {}
        place = Path(self.file).expanduser()
        for file in tables(place) if place.is_dir() else [place]:
            for key, entry in read(file):
                self.entries.setdefault(key, set()).add(entry)

    def select(self, asked: RelevanceQuery) -> Selection:
        video, question = asked.video, asked.question.strip()
        keys = [f"{name}_{question}" for name in (video.path.name, video.path.stem, video.id)]
        found = next((self.entries[key] for key in (*keys, asked.prompt.question_id) if key in self.entries), set())
        if len(found) != 1:
            return self.missed(keys[0], len(found))
        (entry,) = found
        chunk_groups = self.chunk_groups or entry.chunk_groups
        compression = self.compression or entry.compression
        if not entry.units:  # as the authors' code has it
            return Selection(chunk_groups, compression, None, ("selection file: an empty row, read dense",))
        chunks = asked.store.layout.chunks(chunk_groups)
        chosen = {UNIT_GROUPS * unit // chunk_groups for unit in entry.units}
        dense = ends(chunks) | {chunk for chunk in chosen if chunk < len(chunks)}
        return Selection(chunk_groups, compression, tuple(sorted(dense)))

    def missed(self, key: str, rows: int) -> Selection:
        problem = f"{rows} rows that differ" if rows else "no row"
        if self.on_miss == "dense":
            return Selection(1, 1, None, (f"selection file: {problem} for this question, read dense",))
        raise ModelError(
            f"{self.file} has {problem} for {key!r}. Complete the file, or set bilevel_decode.relevance.on_miss=dense "
            "to read such questions dense.",
            kind="no_selection",
        )


def tables(folder: Path) -> list[Path]:
    """The selection files below a folder: the authors have several, some for a part of a benchmark."""
    found = sorted(path for path in folder.rglob("*") if {".json", ".jsonl"} & set(path.suffixes))
    if not found:
        raise ConfigError(f"bilevel_decode.relevance.file={folder} holds no selection file (*.json, *.jsonl).")
    return found


def read(file: Path) -> Iterator[tuple[str, Entry]]:
    """Keys and rows of a file, gzipped or not. Raises ConfigError or DataError."""
    try:
        raw = file.read_bytes()
        text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode()
    except OSError as error:
        raise ConfigError(f"bilevel_decode.relevance.file={file} cannot be read: {error}") from error
    try:
        yield from lines(text) if ".jsonl" in file.suffixes else table(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} is no selection file ({type(error).__name__}: {error}); see models/videoxl2/selection_file.py."
        ) from error


def table(content: dict[str, Any]) -> Iterator[tuple[str, Entry]]:
    """The authors' form, all categories together."""
    for category in content.values():
        if category is None:
            continue
        config = category["config"]
        for key, units in category["selected_unit_indices"].items():
            yield key.strip(), Entry(tuple(units), int(config["selected_chunk_size"]), int(config["compression"]))


def lines(text: str) -> Iterator[tuple[str, Entry]]:
    """One JSON object a line."""
    for line in text.splitlines():
        row = json.loads(line)
        _, chunk_groups, compression, _ = row["config"]
        yield (
            (row.get("key") or row["question_id"]).strip(),
            Entry(tuple(row["units"]), int(chunk_groups), int(compression)),
        )
