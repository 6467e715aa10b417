"""Log files that are none, or nearly: read or refused, never without a word."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import DataError
from evalkit.import_log.joins import Joiner
from evalkit.import_log.logs import Logged, read_log
from evalkit.types import Question, Video, VideoQuestions
from tests.foreign_logs import arguments, run

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


JOINER = Joiner(
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
        ("x.xlsx", "no table", "is no Excel table"),
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
    """Bytes of any kind, and rows that are nearly right."""
    file = tmp_path_factory.getbasetemp() / f"any{suffix}"
    content = json.dumps(value).encode() if data.draw(st.booleans()) else data.draw(st.binary(max_size=60))
    if suffix.endswith(".gz") and data.draw(st.booleans()):
        content = gzip.compress(content)
    file.write_bytes(content)
    try:
        rows = read_log(file)
    except DataError:
        return
    assert JOINER.join(rows).replies.keys() <= JOINER.ids.keys()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(NAMES, json_values, max_size=6), min_size=1, max_size=4))
def test_whatever_a_row_says_it_answers_a_question_or_none(rows):
    logged = [Logged(Path("x"), i, "A", row) for i, row in enumerate(rows)]
    out = JOINER.join(logged)
    assert len(out.unmatched) + len(out.contradicting) + len(out.replies) <= len(rows)
