"""Records do not depend on how a run is carried out, except for times and places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers import VOLATILE, only_run, run_here, toy_arguments
from tests.toy import write_toy


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_toy(tmp_path_factory.mktemp("toy"), videos=5, questions=3)
    (root / "videos" / "v3.mp4").write_bytes(b"not a video at all")
    return root


def carried_out(data: Path, results: Path, *how: str) -> bytes:
    """The records as bytes, without times and places."""
    words = toy_arguments(data, results, "task.allow_missing=true", "model.reply=brightness", "model.frames=7", *how)
    assert run_here(words) == 3  # one video is broken
    lines = (only_run(results) / "records.jsonl").read_bytes().splitlines(keepends=True)
    kept = [{k: v for k, v in json.loads(line).items() if k not in VOLATILE} for line in lines]
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in kept)


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return carried_out(data, tmp_path_factory.mktemp("plain"), "video.workers=1")


@pytest.mark.parametrize(
    "how",
    [
        ("video.workers=1",),
        ("video.workers=2",),
        ("video.workers=4",),
        ("video.workers=2", "video.queue_mb=1"),
        ("model.seconds=0.02", "video.timeout_s=30"),
    ],
)
def test_decoding_in_parallel_changes_no_byte(data: Path, plain: bytes, tmp_path: Path, how: tuple[str, ...]) -> None:
    assert carried_out(data, tmp_path, *how) == plain


def test_frames_from_the_store_change_no_byte(data: Path, plain: bytes, tmp_path: Path) -> None:
    store = f"video.cache={tmp_path / 'frames'}"
    assert carried_out(data, tmp_path / "first", store) == plain
    assert list((tmp_path / "frames").glob("*.frames"))
    assert carried_out(data, tmp_path / "second", store) == plain


def test_in_pieces_or_at_once_changes_no_byte(data: Path, plain: bytes, tmp_path: Path) -> None:
    for limit in (1, 4, 5, 11):
        words = toy_arguments(
            data, tmp_path, "task.allow_missing=true", "model.reply=brightness", "model.frames=7", f"limit={limit}"
        )
        assert run_here(words) in (0, 3)
    assert carried_out(data, tmp_path) == plain
