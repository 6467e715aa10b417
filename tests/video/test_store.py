"""The frame store: the same frames without decoding, whatever happens to it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from evalkit.errors import ConfigError
from evalkit.types import FrameRequest, Video
from evalkit.video.reader import FrameReader
from evalkit.video.resize import FixedSize
from evalkit.video.settings import VideoSettings
from evalkit.video.store import FrameStore

from .corpus import ROOT, Corpus

SMALL = FrameRequest("uniform", 20, resize=FixedSize(32, 32))


def read(store: Path, path: Path, request: FrameRequest = SMALL, **settings: object) -> tuple[np.ndarray, float, str]:
    with FrameReader(VideoSettings(workers=1, cache=str(store), **settings)) as reader:  # type: ignore[arg-type]
        stream = reader.open(Video("v", path), request)
        return np.concatenate(list(stream.batches(6))), stream.decode_seconds, stream.decoder


def entries(store: Path) -> list[Path]:
    return sorted(store.glob("*.frames"))


@pytest.fixture
def video(corpus: Corpus, tmp_path: Path) -> Path:
    return Path(shutil.copy2(corpus["closed_gop.mp4"], tmp_path / "video.mp4"))


def test_a_second_run_decodes_nothing(tmp_path: Path, video: Path) -> None:
    first, first_s, decoder = read(tmp_path / "store", video)
    again, again_s, same_decoder = read(tmp_path / "store", video)
    assert np.array_equal(first, again) and decoder == same_decoder
    assert first_s > 0 and again_s == 0
    assert len(entries(tmp_path / "store")) == 1 and not list((tmp_path / "store").glob("*.part"))


def test_what_changes_a_frame_changes_the_key(tmp_path: Path, video: Path) -> None:
    store = tmp_path / "store"
    read(store, video)
    moved = Path(shutil.copy2(video, tmp_path / "elsewhere.mp4"))
    read(store, moved)
    assert len(entries(store)) == 1  # the same content under another name
    read(store, video, FrameRequest("uniform", 20, resize=FixedSize(32, 48)))
    read(store, video, FrameRequest("uniform", 21, resize=FixedSize(32, 32)))
    read(store, video, FrameRequest("midpoints", 20, resize=FixedSize(32, 32)))
    read(store, video, SMALL, backend="decord")
    assert len(entries(store)) == 5
    os.utime(video, ns=(0, 0))
    read(store, video)
    assert len(entries(store)) == 6


@pytest.mark.parametrize("harm", ["a byte of frame 9", "the header", "the end"])
def test_a_damaged_entry_is_made_again(
    tmp_path: Path, video: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected, _, _ = read(tmp_path / "store", video)
    (entry,) = entries(tmp_path / "store")
    whole = entry.read_bytes()
    data = bytearray(whole)
    if harm == "the end":
        del data[-100:]
    else:
        data[40 if harm == "the header" else len(data) - 11 * 32 * 32 * 3] ^= 1
    entry.write_bytes(data)
    again, seconds, decoder = read(tmp_path / "store", video)
    assert np.array_equal(again, expected) and seconds > 0 and decoder.startswith("pyav")
    assert "damaged" in caplog.text
    assert entry.read_bytes() == whole


def test_entries_swapped_between_two_keys_are_decoded_again(
    tmp_path: Path, video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    requests = [SMALL, FrameRequest("midpoints", 20, resize=FixedSize(32, 32))]
    expected = [read(tmp_path / "store", video, request)[0] for request in requests]
    one, two = entries(tmp_path / "store")
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    for request, frames in zip(requests, expected, strict=True):
        again, seconds, _ = read(tmp_path / "store", video, request)
        assert np.array_equal(again, frames) and seconds > 0
    assert caplog.text.count("is another entry") == 2


def test_a_damaged_entry_is_remarked(tmp_path: Path, video: Path) -> None:
    read(tmp_path / "store", video)
    (entry,) = entries(tmp_path / "store")
    entry.write_bytes(entry.read_bytes()[:-1])
    for remarks in (("the frame store's entry of this video was damaged; the video was decoded anew",), ()):
        with FrameReader(VideoSettings(workers=1, cache=str(tmp_path / "store"))) as reader:
            stream = reader.open(Video("v", video), SMALL)
            assert sum(len(batch) for batch in stream.batches(6)) == 20
            assert stream.remarks == remarks


def test_remarks_are_stored_with_the_frames(tmp_path: Path, corpus: Corpus) -> None:
    said = []
    for _ in range(2):
        with FrameReader(VideoSettings(workers=1, cache=str(tmp_path / "store"))) as reader:
            stream = reader.open(Video("v", corpus["transport.ts"]), SMALL)
            assert sum(len(batch) for batch in stream.batches(6)) == 20
            said.append((stream.remarks, stream.decode_seconds > 0))
    remark = "the video cannot be checked: mpegts does not say how long it is, so a missing end is not noticed"
    assert said == [((remark,), True), ((remark,), False)]


def test_the_least_recently_used_entries_go_first(tmp_path: Path, video: Path) -> None:
    store = tmp_path / "store"
    sizes = [(32, 32), (32, 34), (32, 36)]
    for i, size in enumerate(sizes):
        read(store, video, FrameRequest("uniform", 20, resize=FixedSize(*size)))
        newest = max(entries(store), key=lambda p: p.stat().st_mtime_ns)
        os.utime(newest, (1000 + i, 1000 + i))
    read(store, video, FrameRequest("uniform", 20, resize=FixedSize(*sizes[0])))  # used again: now the newest
    limit = sum(e.stat().st_size for e in entries(store)) / 1e9
    _, seconds, _ = read(store, video, FrameRequest("uniform", 20, resize=FixedSize(32, 38)), cache_gb=limit * 1.1)
    assert seconds > 0 and len(entries(store)) == 3
    assert read(store, video, FrameRequest("uniform", 20, resize=FixedSize(*sizes[0])))[1] == 0
    assert read(store, video, FrameRequest("uniform", 20, resize=FixedSize(*sizes[1])))[1] > 0


def test_frames_given_up_leave_nothing(tmp_path: Path, video: Path) -> None:
    with FrameReader(VideoSettings(workers=1, queue_mb=1, cache=str(tmp_path / "store"))) as reader:
        stream = reader.open(Video("v", video), FrameRequest("uniform", 100))
        next(stream.batches(4))
        stream.close()  # type: ignore[attr-defined]
        for _ in range(200):
            if not reader._pool.busy():
                break
            time.sleep(0.01)
    assert entries(tmp_path / "store") == [] and not list((tmp_path / "store").glob("*.part"))


def test_a_full_disk_costs_the_entry_not_the_run(tmp_path: Path, video: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected, _, _ = read(tmp_path / "other", video)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        frames, _, _ = read(tmp_path / "store", video)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert np.array_equal(frames, expected)
    assert "could not be written" in caplog.text
    assert entries(tmp_path / "store") == [] and not list((tmp_path / "store").glob("*.part"))


def test_an_entry_beyond_the_limit_is_not_kept(tmp_path: Path, video: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(tmp_path / "store", video, cache_gb=1e-5)
    assert entries(tmp_path / "store") == [] and "video.cache_gb" in caplog.text


def test_a_folder_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"video\.cache="):
        FrameStore(tmp_path / "file" / "store", 10)


CHILD = """
    import sys
    sys.path.insert(0, {root!r})
    from evalkit.types import FrameRequest, Video
    from evalkit.video.reader import FrameReader
    from evalkit.video.resize import FixedSize
    from evalkit.video.settings import VideoSettings
    with FrameReader(VideoSettings(workers=1, cache={store!r})) as reader:
        wanted = [(Video("v", {path!r}), FrameRequest("uniform", n, resize=FixedSize(32, 32))) for n in range(10, 18)]
        for stream in reader.open_ahead(wanted):
            print(sum(int(b.sum()) for b in stream.batches(5)))
"""


def test_several_processes_share_a_store(tmp_path: Path, video: Path) -> None:
    program = textwrap.dedent(CHILD).format(root=str(ROOT), store=str(tmp_path / "store"), path=str(video))
    children = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], outputs
    assert len({out for out, _ in outputs}) == 1 and len(outputs[0][0].split()) == 8
    assert len(entries(tmp_path / "store")) == 8 and not list((tmp_path / "store").glob("*.part"))
    assert all(
        read(tmp_path / "store", video, FrameRequest("uniform", n, resize=FixedSize(32, 32)))[1] == 0 for n in (10, 17)
    )
