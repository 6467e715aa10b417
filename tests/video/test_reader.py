"""The reader: frames through processes, ahead of the consumer, whatever happens to a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from evalkit.errors import ConfigError, VideoError
from evalkit.types import FrameRequest, FrameStream, Video
from evalkit.video import frame_source as source_module
from evalkit.video import settings as settings_module
from evalkit.video.decord import DecordDecoder
from evalkit.video.info import BackendFailed
from evalkit.video.reader import FrameReader
from evalkit.video.resize import FixedSize
from evalkit.video.settings import VideoSettings

from .corpus import BROKEN, COUNT, ROOT, SOUND, Corpus, encode, resized_midway
from .test_decoders import WRONG_IN_DECORD

ALL = FrameRequest("uniform", COUNT)
BIG = (480, 640)


@pytest.fixture(scope="module")
def reader() -> Iterator[FrameReader]:
    with FrameReader(VideoSettings(workers=1, timeout_s=20)) as reader:
        yield reader


@pytest.fixture(scope="module")
def big(corpus: Corpus) -> Path:
    """A file whose frames do not fit into a queue of 1 MB, so that its worker is busy until they are read."""
    return encode(corpus.folder / "big.mp4", count=40, size=BIG, options={"preset": "ultrafast", "g": "10"})


def frames_of(stream: FrameStream, size: int = 7) -> np.ndarray:
    return np.concatenate(list(stream.batches(size)))


def test_frames_batches_and_what_they_took(reader: FrameReader, corpus: Corpus) -> None:
    stream = reader.open(Video("v", corpus["closed_gop.mp4"]), FrameRequest("uniform", 20))
    batches = list(stream.batches(8))
    assert [len(b) for b in batches] == [8, 8, 4]
    assert all(b.dtype == np.uint8 for b in batches)
    expected = corpus.frames("closed_gop.mp4")
    assert np.array_equal(np.concatenate(batches), [expected[i] for i in stream.plan.indices])
    assert stream.plan.times_s == tuple(i / 25 for i in stream.plan.indices)
    assert 0 < stream.decode_seconds < 20
    assert stream.decoder.startswith("pyav ")


@pytest.mark.parametrize("resample", ["bicubic", "bilinear", "lanczos"])
def test_frames_are_resized_as_pillow_does(reader: FrameReader, corpus: Corpus, resample: str) -> None:
    request = FrameRequest("uniform", 5, resize=FixedSize(48, 56), resample=resample)
    stream = reader.open(Video("v", corpus["closed_gop.mp4"]), request)
    for frame, i in zip(frames_of(stream), stream.plan.indices, strict=True):
        full = Image.fromarray(corpus.frames("closed_gop.mp4")[i])
        assert np.array_equal(frame, np.asarray(full.resize((56, 48), Image.Resampling[resample.upper()])))


def test_a_crop_reads_its_part(reader: FrameReader, corpus: Corpus) -> None:
    stream = reader.open(Video("v", corpus["closed_gop.mp4"], start_s=2.0, end_s=3.0), FrameRequest("uniform", 3))
    assert stream.plan.indices == (50, 62, 75)
    expected = corpus.frames("closed_gop.mp4")
    assert np.array_equal(frames_of(stream), [expected[i] for i in (50, 62, 75)])


def test_a_frame_that_is_planned_twice_comes_twice(reader: FrameReader, corpus: Corpus) -> None:
    stream = reader.open(Video("v", corpus["moving.gif"]), FrameRequest("midpoints", 30))
    assert len(set(stream.plan.indices)) < 30
    expected = corpus.frames("moving.gif")
    assert np.array_equal(frames_of(stream), [expected[i] for i in stream.plan.indices])


def test_pictures_that_change_their_size_need_one(reader: FrameReader, corpus: Corpus) -> None:
    path = resized_midway(corpus.folder / "resized.h264")
    request = FrameRequest("uniform", 12)
    with pytest.raises(VideoError, match="changes its picture size at frame"):
        frames_of(reader.open(Video("v", path), request))
    stream = reader.open(Video("v", path), FrameRequest("uniform", 12, resize=FixedSize(32, 32)))
    for frame, i in zip(frames_of(stream), stream.plan.indices, strict=True):
        full = Image.fromarray(corpus.frames("resized.h264")[i])
        assert np.array_equal(frame, np.asarray(full.resize((32, 32), Image.Resampling.BICUBIC)))


def test_a_whole_corpus_costs_only_its_broken_files(corpus: Corpus) -> None:
    names = sorted([*SOUND, *(n for n in BROKEN if n != "folder.mp4")], key=len)
    assert len(names) > 40
    with FrameReader(VideoSettings(workers=2, timeout_s=20)) as reader:
        wanted = ((Video(name, corpus[name]), FrameRequest("uniform", 16)) for name in names)
        for name, opened in zip(names, reader.open_ahead(wanted), strict=True):
            if name in BROKEN:
                assert isinstance(opened, VideoError)
                assert opened.kind == BROKEN[name][0] and str(corpus[name]) in str(opened)
            else:
                assert not isinstance(opened, VideoError)
                expected = corpus.frames(name)
                assert np.array_equal(frames_of(opened), [expected[i] for i in opened.plan.indices]), name


def test_the_next_video_is_decoded_meanwhile(corpus: Corpus) -> None:
    with FrameReader(VideoSettings(workers=1)) as reader:
        pairs = [(Video("v", corpus[n]), ALL) for n in ("closed_gop.mp4", "vfr.mp4", "open_gop.mp4")]
        streams = reader.open_ahead(pairs)
        first = next(streams)
        assert not isinstance(first, VideoError)
        frames_of(first)
        coming = streams.gi_frame.f_locals["ahead"][1]
        deadline = time.monotonic() + 20
        while not coming.done and time.monotonic() < deadline:  # the model works; the second video arrives
            time.sleep(0.01)
        assert coming.done, "nothing was decoded before it was asked for"
        second = next(streams)
        assert second is coming and len(frames_of(coming)) == COUNT
        streams.close()  # type: ignore[attr-defined]


def test_waiting_frames_stay_within_the_queue(big: Path) -> None:
    with FrameReader(VideoSettings(workers=1, queue_mb=8)) as reader:
        stream = reader.open(Video("v", big), ALL)
        time.sleep(1.0)
        assert 0 < stream._queued_bytes <= 4 * 2**20  # type: ignore[attr-defined]
        assert len(frames_of(stream)) == 40


def disturb(reader: FrameReader, sign: signal.Signals) -> threading.Event:
    """Send `sign` to each decoding process of the reader as soon as it is busy."""
    stop, seen = threading.Event(), set[int]()

    def run() -> None:
        while not stop.is_set():
            for pid in reader._pool.busy():
                if pid not in seen:
                    seen.add(pid)
                    os.kill(pid, sign)
            time.sleep(0.002)

    threading.Thread(target=run, daemon=True).start()
    return stop


@pytest.mark.parametrize(
    ("sign", "cause"), [(signal.SIGKILL, "killed by signal 9"), (signal.SIGSTOP, "no progress in 1 s")]
)
def test_a_decoder_that_dies_or_hangs_is_replaced(big: Path, sign: signal.Signals, cause: str) -> None:
    with FrameReader(VideoSettings(workers=1, timeout_s=1, queue_mb=2)) as reader:
        reference = frames_of(reader.open(Video("v", big), ALL))
        stream = reader.open(Video("v", big), ALL)
        batches = stream.batches(3)
        got = [next(batches)]
        os.kill(reader._pool.busy()[0], sign)
        started = time.monotonic()
        got += batches
        assert time.monotonic() - started < 8
        assert np.array_equal(np.concatenate(got), reference)
        assert stream.decoder.startswith("pyav 18.1.0 (pyav failed: ".replace("18.1.0", av.__version__))
        assert cause in stream.decoder
        # the next video is read as usual again
        assert reader.open(Video("v", big), FrameRequest("uniform", 1)).decoder.startswith("pyav")


@pytest.mark.parametrize(("sign", "kind"), [(signal.SIGKILL, "decoder_crash"), (signal.SIGSTOP, "timeout")])
def test_when_all_decoders_fail_the_video_is_given_up(big: Path, sign: signal.Signals, kind: str) -> None:
    with FrameReader(VideoSettings(workers=1, timeout_s=0.7, queue_mb=1)) as reader:
        stop = disturb(reader, sign)
        started = time.monotonic()
        with pytest.raises(VideoError) as error:
            frames_of(reader.open(Video("v", big), ALL))
        stop.set()
        assert time.monotonic() - started < 12
        assert error.value.kind == kind
        assert str(error.value).count("pyav failed") == 2 and "decord failed" in str(error.value)
        time.sleep(0.05)
        assert len(frames_of(reader.open(Video("v", big), ALL))) == 40


def killed_from(reader: FrameReader, victims: int) -> threading.Event:
    """Kill the reader's first `victims` decoding processes as soon as they are busy."""
    stop = threading.Event()

    def run() -> None:
        seen = set[int]()
        while not stop.is_set() and len(seen) < victims:
            for pid in reader._pool.busy():
                if pid not in seen:
                    seen.add(pid)
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    threading.Thread(target=run, daemon=True).start()
    return stop


def test_decord_stands_in_when_two_processes_die(big: Path) -> None:
    with FrameReader(VideoSettings(workers=1, queue_mb=2)) as reader:
        reference = frames_of(reader.open(Video("v", big), ALL))
        stop = killed_from(reader, 2)
        stream = reader.open(Video("v", big), ALL)
        assert np.array_equal(frames_of(stream), reference)
        stop.set()
        assert stream.decoder.startswith("decord 0.6.0 (pyav failed: ") and stream.decoder.count("failed") == 2


def test_no_frame_of_a_decoder_that_is_wrong_is_ever_shown(corpus: Corpus) -> None:
    """Streams refreshed piece by piece, interlaced ones and 10 bits: decord shows other frames of them."""
    options = {"preset": "veryfast", "g": "12", "bf": "0", "x264-params": "intra-refresh=1"}
    refresh = encode(corpus.folder / "big_refresh.mp4", count=80, size=BIG, options=options)
    for path in (refresh, corpus["field_coded.mp4"], corpus["ten_bit.mp4"], corpus["ten_bit_hevc.mkv"]):
        with FrameReader(VideoSettings(workers=1, queue_mb=2)) as reader:
            stop = killed_from(reader, 2)
            with pytest.raises(VideoError, match="known to show other frames"):
                frames_of(reader.open(Video("v", path), FrameRequest("uniform", 16)))
            stop.set()


@pytest.mark.parametrize("name", [name for name, how in WRONG_IN_DECORD.items() if how != "not opened"])
def test_decord_does_not_stand_in_where_it_is_known_to_be_wrong(corpus: Corpus, name: str) -> None:
    with pytest.raises(BackendFailed, match="known to show other frames"):
        DecordDecoder(corpus[name], stand_in=True)


@pytest.mark.parametrize(
    "name", ["closed_gop.mp4", "pyramid.mp4", "hevc_closed.mp4", "vp9.webm", "vfr.mp4", "rotated.mp4"]
)
def test_decord_stands_in_where_it_is_right(corpus: Corpus, name: str) -> None:
    expected = corpus.frames(name)
    frames = DecordDecoder(corpus[name], stand_in=True).frames([0, 50, 119])
    assert np.array_equal(list(frames), [expected[i] for i in (0, 50, 119)])


def test_a_file_that_changes_while_it_is_read_is_noticed(corpus: Corpus, tmp_path: Path) -> None:
    for cache in (None, str(tmp_path / "store")):
        path = encode(tmp_path / "growing.mp4", count=40, size=BIG, options={"preset": "ultrafast", "g": "10"})
        with FrameReader(VideoSettings(workers=1, queue_mb=2, cache=cache)) as reader:
            batches = reader.open(Video("v", path), ALL).batches(5)
            next(batches)
            with path.open("ab") as file:
                file.write(b"more")
            with pytest.raises(VideoError, match="changed while it was read"):
                list(batches)
        assert not list((tmp_path / "store").glob("*.frames"))


def test_videos_in_flight_stay_open_until_their_consumers_close_them(big: Path) -> None:
    with FrameReader(VideoSettings(workers=1, queue_mb=12), in_flight=3) as reader:
        reference = frames_of(reader.open(Video("v", big), ALL))
        streams = reader.open_ahead([(Video(f"v{i}", big), ALL) for i in range(5)])
        held = [next(streams) for _ in range(2)]  # both are read by turns, none to its end
        readers = [stream.batches(4) for stream in held]  # type: ignore[union-attr]
        parts = [[next(batches) for batches in readers] for _ in range(10)]
        for n in range(2):
            assert np.array_equal(np.concatenate([part[n] for part in parts]), reference)
            assert held[n]._limit_bytes == 3 * 2**20  # type: ignore[union-attr]
            held[n].close()  # type: ignore[union-attr]
        assert [len(frames_of(stream)) for stream in streams] == [40, 40, 40]  # type: ignore[arg-type]


def test_several_threads_open_videos_at_the_same_time(corpus: Corpus) -> None:
    names = ["closed_gop.mp4", "vfr.mp4", "open_gop.mp4", "vp9.webm"]
    for name in names:
        assert corpus.frames(name)
    got: dict[str, np.ndarray] = {}
    with FrameReader(VideoSettings(workers=1), in_flight=4) as reader:

        def read(name: str) -> None:
            got[name] = frames_of(reader.open(Video(name, corpus[name]), ALL))

        threads = [threading.Thread(target=read, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in names:
        assert np.array_equal(got[name], corpus.frames(name))


def test_without_decord_a_crash_is_an_error(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "decord_installed", lambda: False)
    with FrameReader(VideoSettings(workers=1, queue_mb=1)) as reader:
        stop = killed_from(reader, 2)
        with pytest.raises(VideoError) as error:
            frames_of(reader.open(Video("v", big), ALL))
        stop.set()
        assert error.value.kind == "decoder_crash"


def test_a_decoder_that_cannot_open_a_file_is_replaced(corpus: Corpus) -> None:
    with FrameReader(VideoSettings(backend="decord", workers=1)) as reader:
        stream = reader.open(Video("v", corpus["av1.mp4"]), FrameRequest("uniform", 4))
        assert stream.decoder.startswith("pyav ") and "(decord failed: " in stream.decoder
        expected = corpus.frames("av1.mp4")
        assert np.array_equal(frames_of(stream), [expected[i] for i in stream.plan.indices])


def test_frames_nobody_wants_stop_their_worker(big: Path, reader: FrameReader) -> None:
    with FrameReader(VideoSettings(workers=1, queue_mb=1)) as small:
        stream = small.open(Video("v", big), ALL)
        next(stream.batches(2))
        stream.close()  # type: ignore[attr-defined]
        deadline = time.monotonic() + 5
        while small._pool.busy() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not small._pool.busy()
        with pytest.raises(VideoError):
            next(stream.batches(2))


def test_closing_ends_all_processes(corpus: Corpus, big: Path) -> None:
    before = {p.pid for p in psutil.Process().children()}
    reader = FrameReader(VideoSettings(workers=2, queue_mb=1))
    streams = reader.open_ahead([(Video("v", big), ALL)] * 3)
    next(streams)
    reader.close()
    deadline = time.monotonic() + 5
    while {p.pid for p in psutil.Process().children()} - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert {p.pid for p in psutil.Process().children()} <= before
    for opened in streams:
        with pytest.raises(VideoError, match="closed before"):
            raise opened if isinstance(opened, VideoError) else VideoError(str(len(frames_of(opened))))


CHILD = """
    import sys, time
    sys.path.insert(0, {root!r})
    from evalkit.types import FrameRequest, Video
    from evalkit.video.reader import FrameReader
    from evalkit.video.settings import VideoSettings
    reader = FrameReader(VideoSettings(workers=2, queue_mb=1))
    streams = reader.open_ahead([(Video("v", {path!r}), FrameRequest("uniform", 40))] * 3)
    next(streams)
    time.sleep(0.5)
    print(*reader._pool.busy(), flush=True)
    time.sleep(60)
"""


def child(big: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    program = textwrap.dedent(CHILD).format(root=str(ROOT), path=str(big))
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]


def test_workers_do_not_outlive_a_killed_parent(big: Path) -> None:
    process, workers = child(big)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    assert psutil.wait_procs(workers, timeout=5)[1] == []


def test_ctrl_c_shows_nothing_of_the_workers(big: Path) -> None:
    process, workers = child(big)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert errors.count("KeyboardInterrupt") == 1 and "process_main" not in errors
    assert psutil.wait_procs(workers, timeout=5)[1] == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (VideoSettings(backend="pyavv"), 'Did you mean "pyav"'),
        (VideoSettings(workers=-1), "video.workers is -1"),
        (VideoSettings(timeout_s=0), "video.timeout_s"),
        (VideoSettings(queue_mb=0), "video.queue_mb"),
        (VideoSettings(cache_gb=0), "video.cache_gb"),
    ],
)
def test_settings_that_cannot_work_say_why(settings: VideoSettings, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        FrameReader(settings)
    assert words in str(error.value)


def test_decord_that_is_not_installed_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_module, "decord_installed", lambda: False)
    with pytest.raises(ConfigError, match="pip install decord"):
        FrameReader(VideoSettings(backend="decord"))


def test_a_request_that_cannot_work_costs_no_process(reader: FrameReader, corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="Did you mean"):
        reader.open(Video("v", corpus["closed_gop.mp4"]), FrameRequest("unifrom", 4))
