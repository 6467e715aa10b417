"""Damaged, unusual and wrong log files are read or refused with a message."""

import gzip
import io
import json
import os
import random
import re
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from evalkit.errors import DataError
from evalkit.import_log.logs import LogRow, read_files, read_log
from evalkit.import_log.matching import QuestionMatcher
from evalkit.runs import read_records
from evalkit.types import Question, Video, VideoQuestions
from tests.foreign_logs import arguments, pairs, run, videomme_log

NAMES = st.sampled_from(
    [
        *("question_id", "id", "doc_id", "doc", "resps", "reply", "pred", "target", "answer", "question", "input"),
        *(
            "video",
            "videoID",
            "options",
            "candidates",
            "logs",
            "questions",
            "start",
            "end",
            "frames",
            "depth",
            "A",
            "B",
        ),
    ]
)


AB, XY = ("a", "b"), ("x", "y")


MATCHER = QuestionMatcher(
    [
        VideoQuestions(Video("v1", Path("v1.mp4")), (Question("1", "What?", AB, "A"), Question("2", "Who?", XY, "B"))),
        VideoQuestions(
            Video("v2", Path("v2.mp4"), 1.0, 2.0), (Question("3", "What?", AB, "B"), Question("4", "", (), (1.0, 2.0)))
        ),
    ]
)


KINDS = st.sampled_from([".json", ".jsonl", ".json.gz", ".jsonl.gz", ".csv", ".tsv.gz", ".xlsx"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.json", "{", "is not JSON"),
        ("x.json", "3", "expected a list of rows"),
        ("x.json", "[1]", "expected a list of rows"),
        ("x.json", "[]", "holds no replies"),
        ("x.jsonl", '{"question_id": "001-1"}', "row 1: no reply. Expected one of the columns"),
        ("x.jsonl", '{"question_id": "nobody", "reply": "A"}', "belong to no question"),
        ("x.jsonl", "nonsense", "cannot be read"),
        ("x.xlsx", "no table", "is not an Excel table"),
        ("x.pkl", "", "unknown kind of table"),
    ],
)
def test_files_that_are_no_logs(name, content, words, tmp_path):
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(DataError, match=words):
        run(file, tmp_path / "r", *arguments("videomme"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    json_values, st.sampled_from([".json", ".jsonl", ".json.gz", ".jsonl.gz", ".csv", ".tsv.gz", ".xlsx"]), st.data()
)
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path_factory, value, suffix, data):
    """Arbitrary bytes, and rows with a few mistakes."""
    file = tmp_path_factory.getbasetemp() / f"any{suffix}"
    content = json.dumps(value).encode() if data.draw(st.booleans()) else data.draw(st.binary(max_size=60))
    if suffix.endswith(".gz") and data.draw(st.booleans()):
        content = gzip.compress(content)
    file.write_bytes(content)
    try:
        (log,) = read_files([file])
        rows = read_log(log)
    except DataError:
        return
    assert MATCHER.match(rows).replies.keys() <= MATCHER.ids.keys()


def zipped(compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>" * 100)
        archive.writestr("xl/workbook.xml", "<workbook/>" * 100)
    return buffer.getvalue()


def workbook() -> bytes:
    buffer = io.BytesIO()
    book = Workbook()
    for row in (["question_id", "prediction"], *([f"001-{i}", "ABCD"[i % 4]] for i in range(40))):
        book.active.append(row)
    book.save(buffer)
    return buffer.getvalue()


def damaged(content: bytes, at: int = -1) -> bytes:
    """Change eight bytes."""
    at = len(content) // 2 if at < 0 else at
    return content[:at] + bytes(255 - byte for byte in content[at : at + 8]) + content[at + 8 :]


LINES = b'{"question_id": "001-1", "reply": "A"}\n' * 50


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.jsonl.gz", gzip.compress(LINES, mtime=0)[:-20], "is a damaged gzip file"),
        ("x.jsonl.gz", damaged(gzip.compress(random.Random(1).randbytes(999), mtime=0)), "is a damaged gzip file"),
        ("x.json.gz", b"\x1f\x8b nonsense", "is a damaged gzip file"),
        ("x.xlsx", damaged(workbook()), "is not an Excel table, or a damaged one"),
        ("x.xlsx", workbook()[:-30], "is not an Excel table, or a damaged one"),
        ("x.xlsx", zipped(zipfile.ZIP_DEFLATED), "is not an Excel table, or a damaged one"),
        ("x.xlsx", damaged(zipped(zipfile.ZIP_LZMA), 60), "is not an Excel table, or a damaged one"),
        ("x.json", b"[" * 100_000, "nested too deeply"),
        ("x.jsonl", b'{"a": ' * 100_000, "nested too deeply"),
        ("x.json", b'[{"reply": ' + b"[" * 900 + b"]" * 900 + b"}]", "nested too deeply|belong to no question"),
        ("x.json", b'[{"reply": "A", "answer": ' + b"[" * 900 + b"]" * 900 + b"}]", "too deeply|belong to no"),
        ("x.json", b'{"a": "\xff"}', "is not text in utf-8"),
        ("x.csv", "ÿþ".encode("utf-16")[:-1], "is not text in utf-16"),
        ("x.csv", b"question_id,prediction\n001-1,A,B\n", "row 1: more cells than the header names"),
        ("x.csv", b'question_id,prediction\n"001-1,A\n', "belong to no question|no reply"),
        ("x.json", b'[{"\\ud83d": 1}]', "row 1: no reply"),
        ("x.json", b'{"reply": ' + b"9" * 5000 + b"}", "is not JSON"),
    ],
)
def test_damaged_files_are_told_by_a_message(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        run(file, tmp_path / "r", *arguments("videomme"))
    assert file.name in str(caught.value)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nowhere/x.json", "does not exist"),
        ("/", "cannot be read (Is a directory)"),
        ("/proc/self/mem", "cannot be read (Input/output error)"),
        ("/nowhere/" + "x" * 5000, "cannot be read (File name too long)"),
        ("/nowhere/\0.json", "cannot be read (embedded null byte)"),
    ],
)
def test_files_that_cannot_be_read(path: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        run(Path(path), tmp_path, *arguments("videomme"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", [".json", ".json.gz", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz"])
def test_a_byte_order_mark_is_read_everywhere(suffix: str, encoding: str, tmp_path: Path) -> None:
    rows = [{"question_id": f"q{i}", "reply": "Blau ✓\u2028ü"} for i in range(3)]
    if suffix.startswith(".json"):
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        text = "\r\n".join(lines) if suffix.startswith(".jsonl") else f"[{','.join(lines)}]"
    else:
        separator = "\t" if suffix.startswith(".tsv") else ","
        text = "".join(separator.join(row) + "\r\n" for row in (rows[0], *(row.values() for row in rows)))
    content = text.encode(encoding)
    file = tmp_path / f"x{suffix}"
    file.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    (log,) = read_files([file])
    assert [dict(row.values) for row in read_log(log)] == rows


def test_a_reply_cut_inside_a_character_is_imported_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = videomme_log(pairs("videomme"))
    rows[3]["resps"] = [["It is \ud83d"]]
    rows[3]["arguments"] = [["What \ud83d?", {}]]
    file = tmp_path / os.fsdecode(b"log \xff.json")
    file.write_text(json.dumps({"logs": rows}))
    folder = run(file, tmp_path / "r", *arguments("videomme"))
    record = next(r for r in read_records(folder) if r.reply.startswith("It is"))
    assert (record.reply, record.prompt) == ("It is \ufffd", "What \ufffd?")
    assert "warning: 1 replies contain unpaired UTF-16 surrogates" in capsys.readouterr().err
    assert json.loads((folder / "manifest.json").read_text())["imported_from"]["files"] == ["log \ufffd.json"]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["gz", "xlsx"]), st.integers(0, 10_000), st.binary(max_size=6), st.booleans())
def test_whatever_is_damaged_is_read_or_refused(tmp_path_factory, kind, at, others, cut):
    """A log with changed bytes, or without its end."""
    whole = _GZ if kind == "gz" else _XLSX
    at %= len(whole)
    content = whole[:at] + others + (b"" if cut else whole[at + len(others) :])
    file = tmp_path_factory.getbasetemp() / f"damaged.{'jsonl.gz' if kind == 'gz' else 'xlsx'}"
    file.write_bytes(content)
    try:
        (log,) = read_files([file])
        rows = read_log(log)
    except DataError as error:
        assert file.name in str(error)
        return
    assert MATCHER.match(rows).replies.keys() <= MATCHER.ids.keys()


_GZ, _XLSX = gzip.compress(LINES, mtime=0), workbook()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(NAMES, json_values, max_size=6), min_size=1, max_size=4))
def test_whatever_a_row_says_it_answers_a_question_or_none(rows):
    logged = [LogRow(Path("x"), i, "A", row) for i, row in enumerate(rows)]
    out = MATCHER.match(logged)
    assert len(out.unmatched) + len(out.contradicting) + len(out.replies) <= len(rows)
