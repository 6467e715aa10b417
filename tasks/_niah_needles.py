"""Reads the needles of the published tests, each in its published layout."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from evalkit.errors import DataError
from evalkit.files import find_tables
from evalkit.hub_cache import cached_tables
from evalkit.paths import cache_dir
from evalkit.tables import Row, read_json, read_table
from evalkit.task import HubData

from ._shared import first_existing


class Needle(NamedTuple):
    """A picture and a question whose text contains its options. `answer`: a letter, a word or a number."""

    id: str
    image: Path
    question: str
    answer: str


def read_needles(root: Path, hub: HubData) -> list[Needle]:
    """Raises DataError if there are no needles, and for a faulty row, with file, row and column."""
    layouts = (
        (("data/test-*.parquet", "test-*.parquet", "*.parquet"), _hub),
        (("needle_datasets/dataset.json", "vision_niah/needle_datasets/dataset.json", "dataset.json"), _longva),
        (("qa/qa.json", "datas/qa/qa.json", "NIAH/datas/qa/qa.json", "qa.json"), _video_xl),
        (("niah-coco-singlehop_20.json", "*/niah-coco-singlehop_20.json", "*/*/niah-coco-singlehop_20.json"), _flash),
    )
    for places, read in layouts:
        files = find_tables(root, places)
        if not files and read is _hub:
            files = cached_tables(root, hub, places, "test")
        if files:
            return _checked([needle for file in files for needle in read(file)], files[0])
    raise DataError(
        f"{root} holds no needles: expected data/test-*.parquet (LongVA, from the hub), needle_datasets/dataset.json "
        "(LongVA's repository), qa/qa.json (Video-XL) or niah-coco-singlehop_20.json (VideoChat-Flash)."
    )


def _checked(needles: list[Needle], file: Path) -> list[Needle]:
    if not needles:
        raise DataError(f"{file} holds no needles.")
    missing = [needle.image for needle in needles if not needle.image.is_file()]
    if missing:
        raise DataError(f"{file}: {len(missing)} of {len(needles)} needles have no picture, {missing[0]} among them.")
    return needles


def _hub(file: Path) -> Iterable[Needle]:
    """Pictures in the table are written to the cache once; the file name is a hash of the content."""
    for row in read_table(file):
        yield Needle(f"needle{row.number - 1}", _saved(row), row.text("question"), row.text("answer"))


def _saved(row: Row) -> Path:
    picture: Any = row["image"]
    if isinstance(picture, dict):  # as stored: {bytes, path}
        content, suffix = picture.get("bytes"), Path(picture.get("path") or "x.png").suffix
    elif hasattr(picture, "save"):  # as decoded by datasets
        buffer = BytesIO()
        picture.convert("RGB").save(buffer, "PNG")
        content, suffix = buffer.getvalue(), ".png"
    else:
        content, suffix = None, ""
    if not isinstance(content, bytes):
        raise row.error("image", "expected a picture")
    path = cache_dir() / "needles" / f"{sha256(content).hexdigest()[:20]}{suffix}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{sha256(str(row.path).encode()).hexdigest()[:8]}.part")
        part.write_bytes(content)
        part.replace(path)
    return path


def _longva(file: Path) -> Iterable[Needle]:
    for row in read_table(file):
        name = row.file_name("path")
        image = first_existing(file.parent / "images" / name, file.parent / name)
        yield Needle(Path(name).stem, image, row.text("prompt"), row.id("answer"))


def _flash(file: Path) -> Iterable[Needle]:
    for row in read_table(file):
        name = row.file_name("image")
        image = first_existing(file.parent / name, file.parent.parent / name, file.parent.parent / "source_data" / name)
        yield Needle(f"needle{row.id('id')}", image, row.text("question"), row.text("answer"))


def _video_xl(file: Path) -> Iterable[Needle]:
    """Three lists of the same length."""
    content = read_json(file)
    try:
        lists = [content[key] for key in ("needle", "retrieval_question", "answer")]
        rows = list(zip(*lists, strict=True))
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{file}: expected the lists needle, retrieval_question and answer, of one length ({error})."
        ) from None
    for name, question, answer in rows:
        if not all(isinstance(value, str) for value in (name, question, answer)):
            raise DataError(f"{file}: expected texts, found {(name, question, answer)!r}.")
        image = first_existing(file.parent.parent / "needles" / name, file.parent / "needles" / name)
        yield Needle(Path(name).stem, image, question, answer)
