"""Archives of strangers: whatever they hold, nothing lands outside the folder, and what is whole is unpacked once."""

import contextlib
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import DataError
from evalkit.fetch.archives import Unpacker, archive_of

FILES = {"videos/a.mp4": b"a" * 5000, "videos/deep/b.mp4": os.urandom(3000), "c.srt": b""}


def make_zip(path: Path, files: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("videos/", b"")
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def make_tar(path: Path, files: dict[str, bytes], *members: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return path


def split(path: Path, sizes: list[int]) -> list[Path]:
    """`<path>.part.aa`, ... of these sizes, the last with the rest; the whole is deleted."""
    content, parts = path.read_bytes(), []
    for number, size in enumerate([*sizes, len(content)]):
        part = path.with_name(f"{path.name}.part.a{'abcdefgh'[number]}")
        part.write_bytes(content[:size])
        content = content[size:]
        parts.append(part)
    path.unlink()
    return parts


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def everything(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize(
    ("name", "archive"),
    [
        ("videos_chunked_01.zip", "videos_chunked_01.zip"),
        ("a/subtitles.tar", "a/subtitles.tar"),
        ("x.tar.gz", "x.tar.gz"),
        ("x.tgz", "x.tgz"),
        ("videos.tar.part.aa", "videos.tar"),
        ("videos.tar.part.be", "videos.tar"),
        ("videos.tar.gz.part-01", "videos.tar.gz"),
        ("lvb_val.json", None),
        ("movie.zip.mp4", None),
        ("movie.partial", None),
    ],
)
def test_which_files_are_archives(name, archive):
    assert archive_of(name) == archive


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_every_kind_unpacks_to_the_same_files(kind, tmp_path):
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        make_zip(path, FILES)
    else:
        make_tar(path, FILES, mode="w:gz" if kind == "tar.gz" else "w")
    assert Unpacker(tmp_path / "to").unpack([path]) == {name: len(content) for name, content in FILES.items()}
    assert tree(tmp_path / "to") == FILES
    assert not [name for name in everything(tmp_path / "to") if name.endswith(".part")]


def test_flat_drops_the_folders_and_refuses_two_files_of_one_name(tmp_path):
    unpacker = Unpacker(tmp_path / "to", flat=True)
    unpacker.unpack([make_zip(tmp_path / "1.zip", {"x/a.mp4": b"one", "y/b.mp4": b"two"})])
    unpacker.unpack([make_zip(tmp_path / "2.zip", {"z/a.mp4": b"one"})])  # the same file again, as MLVU's tasks share
    assert tree(tmp_path / "to") == {"a.mp4": b"one", "b.mp4": b"two"}
    with pytest.raises(DataError, match=r"3\.zip has a second file a\.mp4 with another content \(one of 3 and"):
        unpacker.unpack([make_zip(tmp_path / "3.zip", {"z/a.mp4": b"other"})])
    assert (tmp_path / "to" / "a.mp4").read_bytes() == b"one"


@pytest.mark.parametrize("flat", [True, False])
def test_a_second_file_of_equal_name_and_size_is_compared(flat, tmp_path):
    """Of equal content it is the same file, of another content it must not be lost without a word."""
    name = "y/a.mp4" if flat else "x/a.mp4"
    unpacker = Unpacker(tmp_path / "to", flat)
    unpacker.unpack([make_zip(tmp_path / "1.zip", {"x/a.mp4": b"one"})])
    unpacker.unpack([make_tar(tmp_path / "2.tar", {name: b"one"})])
    with pytest.raises(DataError, match=r"3\.zip has a second file .*a\.mp4 with another content \(both of 3 bytes\)"):
        unpacker.unpack([make_zip(tmp_path / "3.zip", {name: b"two"})])
    with pytest.raises(DataError, match="both of 3 bytes"):
        Unpacker(tmp_path / "new", flat=True).unpack([make_zip(tmp_path / "4.zip", {"x/a": b"one", "y/a": b"two"})])
    assert list(tree(tmp_path / "to").values()) == [b"one"]


@pytest.mark.parametrize("name", ["x" * 256 + ".mp4", "é" * 200])
def test_a_name_that_no_file_can_have(name, tmp_path):
    with pytest.raises(DataError, match="a name that no file can have"):
        Unpacker(tmp_path / "to").unpack([make_tar(tmp_path / "x.tar", {name: b""})])


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
@settings(max_examples=15, deadline=None)
@given(at=st.integers(30, 3000), byte=st.integers(1, 255))
def test_a_damaged_zip_of_every_compression_is_named(tmp_path_factory, method, at, byte):
    folder = tmp_path_factory.mktemp("damaged")
    with zipfile.ZipFile(folder / "x.zip", "w", method) as archive:
        archive.writestr("a.mp4", bytes(range(256)) * 8 + os.urandom(2000))
    content = bytearray((folder / "x.zip").read_bytes())
    content[at % len(content)] ^= byte
    (folder / "x.zip").write_bytes(content)
    with contextlib.suppress(DataError):
        Unpacker(folder / "to").unpack([folder / "x.zip"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4000), max_size=6))
def test_parts_are_one_archive_wherever_they_are_cut(tmp_path_factory, sizes):
    folder = tmp_path_factory.mktemp("parts")
    parts = split(make_tar(folder / "videos.tar", FILES), sizes)
    Unpacker(folder / "to").unpack(parts)
    assert tree(folder / "to") == FILES


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


ESCAPES = ["../evil", "videos/../../evil", "/tmp/evalkit-evil", "..\\evil", "a/..\\..\\..\\evil", "C:\\evil", "C:evil"]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("flat", [False, True])
def test_no_member_escapes(name, kind, flat, tmp_path):
    path, to = tmp_path / f"x.{kind}", tmp_path / "a" / "b" / "to"
    (make_zip if kind == "zip" else make_tar)(path, {"good.mp4": b"good", name: b"evil"})
    with pytest.raises(DataError, match="would be written outside"):
        Unpacker(to, flat).unpack([path])
    assert not [name for name in everything(tmp_path) if "evil" in name]
    assert not Path("/tmp/evalkit-evil").exists()


@pytest.mark.parametrize(
    "member",
    [
        link("out", "/etc/passwd", tarfile.SYMTYPE),
        link("out", "../../secret", tarfile.SYMTYPE),
        link("inside", "good.mp4", tarfile.SYMTYPE),
        link("hard", "/etc/passwd", tarfile.LNKTYPE),
        link("hard", "good.mp4", tarfile.LNKTYPE),
        link("null", "", tarfile.CHRTYPE),
        link("disk", "", tarfile.BLKTYPE),
        link("pipe", "", tarfile.FIFOTYPE),
    ],
)
def test_no_links_and_no_devices(member, tmp_path):
    path = make_tar(tmp_path / "x.tar", {"good.mp4": b"good"}, member)
    with pytest.raises(DataError, match="is a link or a device"):
        Unpacker(tmp_path / "to").unpack([path])
    assert everything(tmp_path / "to") == ["good.mp4"]


def test_a_file_behind_a_link_of_the_same_archive_does_not_follow_it(tmp_path):
    """The classic: a link out of the folder, then a file below it."""
    (tmp_path / "outside").mkdir()
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(link("door", str(tmp_path / "outside"), tarfile.SYMTYPE))
        info = tarfile.TarInfo("door/evil")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    with pytest.raises(DataError, match="link"):
        Unpacker(tmp_path / "to").unpack([path])
    assert not list((tmp_path / "outside").iterdir())


def test_a_zip_with_a_link_is_refused_before_anything_is_written(tmp_path):
    path = make_zip(tmp_path / "x.zip", {"a": b"a", "out": b"/etc/passwd"}, {"out": stat.S_IFLNK | 0o777})
    with pytest.raises(DataError, match="link"):
        Unpacker(tmp_path / "to").unpack([path])
    assert everything(tmp_path / "to") == []


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused(kind, tmp_path):
    path, zeros = tmp_path / f"x.{kind}", bytes(1 << 27)
    if kind == "zip":
        make_zip(path, {"zeros": zeros})
    else:
        make_tar(path, {"zeros": zeros}, mode="w:gz")
    assert path.stat().st_size < 1 << 18
    with pytest.raises(DataError, match="made to fill the disk"):
        Unpacker(tmp_path / "to").unpack([path])
    assert everything(tmp_path / "to") == []


def test_a_tar_that_claims_a_terabyte_writes_nothing(tmp_path):
    path = tmp_path / "x.tar"
    info = tarfile.TarInfo("huge")
    info.size = 1 << 40
    path.write_bytes(info.tobuf() + bytes(10240))
    with pytest.raises(DataError, match="made to fill the disk"):
        Unpacker(tmp_path / "to").unpack([path])
    assert everything(tmp_path / "to") == []


def test_a_full_disk_is_found_before_a_zip_is_unpacked(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "x.zip", FILES)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(DataError, match=r"has 0\.0 GB free"):
        Unpacker(tmp_path / "to").unpack([path])
    assert everything(tmp_path / "to") == []


def damaged(kind: str, tmp_path: Path) -> list[Path]:
    tar, files = tmp_path / "x.tar", {f"{i}.mp4": os.urandom(2000) for i in range(4)}
    if kind == "no archive":
        tar.write_bytes(b"<html>quota exceeded</html>" * 100)
    elif kind in ("zip", "zip content", "encrypted"):
        tar = make_zip(tmp_path / "x.zip", files)
        content = bytearray(tar.read_bytes())
        if kind == "encrypted":
            for at in (content.find(b"PK\3\4", 100) + 6, content.rfind(b"PK\1\2") + 8):
                content[at] |= 1
        elif kind == "zip content":
            content[600] ^= 255
        tar.write_bytes(content[:-200] if kind == "zip" else content)
    elif kind == "gz":
        tar = make_tar(tmp_path / "x.tar.gz", files, mode="w:gz")
        tar.write_bytes(tar.read_bytes()[:-500])
    else:
        content = bytearray(make_tar(tar, files).read_bytes())
        header = content.find(b"2.mp4\0")
        if kind == "header":
            content[header + 150] ^= 255  # its checksum
        tar.write_bytes({"inside": content[: header + 900], "between files": content[:header]}.get(kind, content))
    return [tar]


@pytest.mark.parametrize(
    "kind", ["no archive", "zip", "zip content", "encrypted", "gz", "inside", "between files", "header"]
)
def test_a_damaged_archive_is_never_taken_for_a_whole_one(kind, tmp_path):
    with pytest.raises(DataError, match=r"cannot be unpacked .* damaged, or of an unknown kind"):
        Unpacker(tmp_path / "to").unpack(damaged(kind, tmp_path))
    assert not [name for name in everything(tmp_path / "to") if name.endswith(".part")]


def test_what_is_there_is_not_written_again(tmp_path):
    path, to = make_tar(tmp_path / "x.tar", FILES), tmp_path / "to"
    Unpacker(to).unpack([path])
    (to / "c.srt").unlink()
    (to / "videos" / "deep" / "b.mp4").write_bytes(b"torn")
    untouched = (to / "videos" / "a.mp4").stat().st_mtime_ns
    Unpacker(to).unpack([path])
    assert tree(to) == FILES
    assert (to / "videos" / "a.mp4").stat().st_mtime_ns == untouched


def test_what_packers_leave_behind_stays_there(tmp_path):
    litter = {"__MACOSX/._a.mp4": b"x", ".DS_Store": b"x", "videos/.hidden": b"x", ".cache/huggingface/x": b"x"}
    Unpacker(tmp_path / "to").unpack([make_zip(tmp_path / "x.zip", {**FILES, **litter})])
    assert tree(tmp_path / "to") == FILES


def test_names_beyond_ascii_and_with_blanks(tmp_path):
    files = {"видео/一 二.mp4": b"x", "-QcYbTEFVnc.mp4": b"y", "_x.mp4": b"z", "a..b.mp4": b"w", "..a.mp4x": b"v"}
    shown = {name: content for name, content in files.items() if not name.startswith(".")}
    Unpacker(tmp_path / "zip").unpack([make_zip(tmp_path / "x.zip", files)])
    Unpacker(tmp_path / "tar").unpack([make_tar(tmp_path / "x.tar", files)])
    assert tree(tmp_path / "zip") == tree(tmp_path / "tar") == shown
