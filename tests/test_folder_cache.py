"""A folder of entries with checksums and a size limit: nothing but what was stored under a key is ever returned."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.folder_cache import STALE_S, DamagedEntry, FolderCache


def make(folder: Path, limit_bytes: int = 10**6) -> FolderCache:
    cache = FolderCache(folder, limit_bytes, ".entry")
    cache.prepare()
    return cache


def put(cache: FolderCache, key: str, *parts: bytes) -> Path:
    with cache.create(key) as entry:
        for part in parts:
            entry.write(part)
        entry.commit({"parts": [len(part) for part in parts]})
    return cache.path(key)


def get(cache: FolderCache, key: str) -> list[bytes] | None:
    entry = cache.open(key)
    if entry is None:
        return None
    with entry:
        return [bytes(entry.read(size)) for size in entry.metadata["parts"]]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=300), max_size=4))
def test_what_was_stored_is_returned(tmp_path: Path, parts: list[bytes]) -> None:
    cache = make(tmp_path)
    put(cache, "a", *parts)
    assert get(cache, "a") == parts
    assert get(cache, "b") is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_byte_and_no_length_is_accepted(tmp_path: Path, data: st.DataObject) -> None:
    cache = make(tmp_path)
    path = put(cache, "a", b"payload" * 10)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    elif data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content += data.draw(st.binary(min_size=1, max_size=9))
    path.write_bytes(content)
    with pytest.raises(DamagedEntry, match="made anew"):
        cache.open("a")
    assert not path.exists()


def test_an_entry_under_another_key_is_refused(tmp_path: Path) -> None:
    cache = make(tmp_path)
    one, two = put(cache, "one", b"1"), put(cache, "two", b"2")
    one.replace(two)
    with pytest.raises(DamagedEntry):
        cache.open("two")
    assert list(tmp_path.iterdir()) == []


def test_without_a_commit_nothing_is_left(tmp_path: Path) -> None:
    cache = make(tmp_path)
    with cache.create("a") as entry:
        entry.write(b"half")
    assert list(tmp_path.iterdir()) == [] and get(cache, "a") is None


def test_what_killed_processes_left_is_deleted_in_time(tmp_path: Path) -> None:
    for name, age in (("old", STALE_S + 60), ("new", 60.0)):
        (tmp_path / f"{name}.part").write_text("")
        os.utime(tmp_path / f"{name}.part", (time.time() - age,) * 2)
    make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new.part"]


def test_the_least_recently_used_entries_go_first_and_never_the_newest(tmp_path: Path) -> None:
    cache = make(tmp_path)
    paths = [put(cache, str(number), b"x" * 1000) for number in range(4)]
    for number, path in enumerate(paths):
        os.utime(path, (number, number))
    assert get(cache, "0") is not None  # used: now the most recent
    small = FolderCache(tmp_path, 2 * paths[0].stat().st_size, ".entry")
    small.evict(paths[2])
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["0", "2"]
    tiny = FolderCache(tmp_path, 10, ".entry")
    tiny.evict(paths[0])
    assert [path.stem for path in tmp_path.iterdir()] == ["0"]


def test_an_entry_that_is_evicted_while_it_is_read_stays_readable(tmp_path: Path) -> None:
    cache = make(tmp_path)
    put(cache, "a", b"content").chmod(0o400)
    entry = cache.open("a")
    assert entry is not None
    cache.path("a").unlink()
    with entry:
        assert entry.read(7) == b"content"
