"""The laws of blobs: named by their content, written once, checked at every read."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import session_log.blobs
from session_log._errors import AppendUnknown, CorruptBlob, InvalidEntry, NotFound, StoreUnavailable, UnsafePath
from session_log.blobs import MAX_BLOB_BYTES, BlobRef, get_blob, put_blob

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""The SHA-256 of ``abc``, from FIPS 180-2."""


def path_of(root: Path, ref: BlobRef) -> Path:
    return root / "blobs" / ref.sha256[:2] / ref.sha256


def identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


@given(st.binary(max_size=2_000))
@example(b"")
@example(bytes(3 * 1024 * 1024 + 1))
@example(b"\n\r\n\0")
def test_what_was_put_is_what_is_got(data: bytes) -> None:
    """A payload comes back byte for byte, by its reference or by its hash alone, however it is spelled."""
    with tempfile.TemporaryDirectory() as folder:
        ref = put_blob(Path(folder), data)

        assert ref == BlobRef(hashlib.sha256(data).hexdigest(), len(data))
        assert get_blob(Path(folder), ref) == data
        assert get_blob(Path(folder), ref.sha256.upper()) == data


def test_a_blob_is_a_file_named_by_its_hash_for_the_owner_only(tmp_path: Path) -> None:
    """F25: ``blobs/ba/ba78…`` holds the payload and nothing else, 0600 in folders 0700."""
    umask = os.umask(0)
    try:
        put_blob(tmp_path / "root", b"abc")
    finally:
        os.umask(umask)
    file = tmp_path / "root" / "blobs" / "ba" / ABC

    assert file.read_bytes() == b"abc"
    assert [path for path in (tmp_path / "root").rglob("*") if path.is_file()] == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in (file.parent, file.parent.parent, tmp_path / "root"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_payload_is_stored_once(tmp_path: Path) -> None:
    """F11: the same payload again is the same file, not written again; its time is that of the last put."""
    first = put_blob(tmp_path, b"abc")
    os.utime(path_of(tmp_path, first), (0, 0))
    before, old = identity(path_of(tmp_path, first))

    assert put_blob(tmp_path, b"abc") == first
    assert put_blob(tmp_path, b"abc", durable=False) == first
    assert identity(path_of(tmp_path, first))[0] == before
    assert identity(path_of(tmp_path, first))[1] > old


@pytest.mark.parametrize("damaged", [b"", b"ab", b"abcd", b"abd", b"abc" * 1_000])
def test_a_damaged_blob_is_refused_and_mended_by_the_next_put(tmp_path: Path, damaged: bytes) -> None:
    """A file that is not what its name says is never returned, and never taken for the payload."""
    ref = put_blob(tmp_path, b"abc")
    path_of(tmp_path, ref).write_bytes(damaged)

    for named in (ref, ref.sha256):
        with pytest.raises(CorruptBlob) as caught:
            get_blob(tmp_path, named)
        assert caught.value.where == str(path_of(tmp_path, ref))
        assert caught.value.actual == hashlib.sha256(damaged).hexdigest()
    put_blob(tmp_path, b"abc")
    assert get_blob(tmp_path, ref) == b"abc"


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_changed_bit_and_any_cut_is_noticed(data: bytes, draw: st.DataObject) -> None:
    """Whatever single bit of the file flips, or wherever it ends too early, the read says so."""
    bit = draw.draw(st.integers(0, len(data) * 8 - 1))
    cut = draw.draw(st.integers(0, len(data) - 1))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        ref = put_blob(root, data, durable=False)
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8

        for damaged in (bytes(flipped), data[:cut]):
            path_of(root, ref).write_bytes(damaged)
            with pytest.raises(CorruptBlob):
                get_blob(root, ref)


@pytest.mark.parametrize(
    "bad",
    ["", "abc", ABC[:-1], ABC + "0", ABC[:-1] + "g", "../" + ABC[3:], "/" * 64, " " + ABC[1:], None, 3, b"a" * 64],
    ids=repr,
)
def test_what_is_no_hash_is_refused(tmp_path: Path, bad: Any) -> None:
    """F24: only 64 hexadecimal digits become a path."""
    for ref in (bad, BlobRef(bad, 3)):
        with pytest.raises(InvalidEntry) as caught:
            get_blob(tmp_path, ref)
        assert caught.value.path == "$.sha256"


def test_a_reference_with_the_wrong_size_is_refused(tmp_path: Path) -> None:
    """The content is what its hash says; a reference that says otherwise is the damaged one."""
    put_blob(tmp_path, b"abc")

    for size in (2, 4, -1, None):
        with pytest.raises(InvalidEntry, match="has 3 bytes") as caught:
            get_blob(tmp_path, BlobRef(ABC, size))  # type: ignore[arg-type]
        assert caught.value.path == "$.size_bytes"


def test_a_missing_blob_is_not_found_and_nothing_is_made(tmp_path: Path) -> None:
    """NotFound names the file, whether the root, the folder or only the file is missing; reading makes nothing."""
    with pytest.raises(NotFound, match=ABC):
        get_blob(tmp_path / "root", ABC)
    assert not (tmp_path / "root").exists()

    put_blob(tmp_path / "root", b"something else")
    with pytest.raises(NotFound, match=ABC):
        get_blob(tmp_path / "root", ABC)
    os.unlink(path_of(tmp_path, put_blob(tmp_path, b"abc")))
    with pytest.raises(NotFound, match=ABC):
        get_blob(tmp_path, ABC)


@pytest.mark.parametrize("data", ["abc", None, 3, [97]], ids=repr)
def test_only_bytes_are_a_blob(tmp_path: Path, data: Any) -> None:
    """Text is encoded by whoever knows its encoding; nothing is written."""
    with pytest.raises(InvalidEntry, match="a blob is bytes"):
        put_blob(tmp_path / "root", data)

    assert not (tmp_path / "root").exists()


def test_a_blob_over_the_limit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """MAX_BLOB_BYTES bounds what a read must hold in memory."""
    with pytest.raises(InvalidEntry, match="MAX_BLOB_BYTES"):
        put_blob(tmp_path / "root", bytes(MAX_BLOB_BYTES + 1))

    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("kind", ["symlink", "folder", "fifo"])
def test_what_is_no_plain_file_is_neither_followed_nor_replaced(tmp_path: Path, kind: str) -> None:
    """F24: a symlink to the right content is refused too, on reading and on writing."""
    ref = put_blob(tmp_path / "root", b"abc")
    place = path_of(tmp_path / "root", ref)
    if kind == "symlink":
        place.rename(tmp_path / "outside")
        place.symlink_to(tmp_path / "outside")
    else:
        place.unlink()
        place.mkdir() if kind == "folder" else os.mkfifo(place)

    with pytest.raises(UnsafePath, match=ABC):
        get_blob(tmp_path / "root", ref)
    with pytest.raises(UnsafePath, match=ABC):
        put_blob(tmp_path / "root", b"abc")

    assert not stat.S_ISREG(place.lstat().st_mode)


@pytest.mark.parametrize("below", ["blobs", "blobs/ba"])
def test_no_folder_below_the_root_is_a_symlink(tmp_path: Path, below: str) -> None:
    """F24: neither folder is followed; nothing appears where it points."""
    (tmp_path / "outside").mkdir()
    place = tmp_path / "root" / below
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "outside")

    with pytest.raises(UnsafePath, match=below):
        put_blob(tmp_path / "root", b"abc")
    with pytest.raises(UnsafePath, match=below):
        get_blob(tmp_path / "root", ABC)

    assert os.listdir(tmp_path / "outside") == []


def test_writers_of_one_payload_do_not_disturb_each_other(tmp_path: Path) -> None:
    """F7: threads that put the same payloads at once all succeed, and leave each of them once."""
    payloads = [bytes([at]) * 10_000 for at in range(8)]
    refs: list[list[BlobRef]] = []

    def put() -> None:
        refs.append([put_blob(tmp_path, payload, durable=False) for payload in payloads])

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refs) == 4 and all(one == refs[0] for one in refs)
    assert [get_blob(tmp_path, ref) for ref in refs[0]] == payloads
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == len(payloads)


CUT = """
import resource, sys
from pathlib import Path
from session_log._errors import NotFound, StoreUnavailable
from session_log.blobs import get_blob, put_blob
root, data = Path(sys.argv[1]), b"payload " * 40
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for cut in range(len(data)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (cut, unlimited[1]))
    try:
        put_blob(root, data)
    except StoreUnavailable:
        pass
    else:
        sys.exit(f"written whole into {cut} bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    left = [path for path in root.rglob("*") if path.is_file()]
    assert left == [], left
assert get_blob(root, put_blob(root, data)) == data
"""


def test_a_put_cut_at_any_byte_leaves_nothing(tmp_path: Path) -> None:
    """F1: a disk that is full after any number of bytes leaves no blob, no part of one, and no temporary file."""
    package = Path(session_log.blobs.__file__).parents[1]
    process = subprocess.run(
        [sys.executable, "-c", CUT, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(package)}, check=False
    )

    assert process.returncode == 0


def test_a_durable_put_is_synced_even_if_the_blob_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one writer put without a sync is synced, with its folders, before a durable put of it returns."""
    ref = put_blob(tmp_path, b"abc", durable=False)
    places = [path_of(tmp_path, ref), *path_of(tmp_path, ref).parents[:3]]
    synced: list[int] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    put_blob(tmp_path, b"abc", durable=False)
    put_blob(tmp_path, b"other", durable=False)
    assert synced == []
    put_blob(tmp_path, b"abc")

    assert set(synced) >= {path.stat().st_ino for path in places}


def test_after_a_failed_sync_a_new_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages of a file whose sync failed may be gone though they still read well: such a blob is not trusted."""
    ref = put_blob(tmp_path, b"abc", durable=False)
    before = identity(path_of(tmp_path, ref))
    fsync, failures = os.fsync, iter([True])

    def failing_once(fd: int) -> None:
        if stat.S_ISREG(os.fstat(fd).st_mode) and next(failures, False):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", failing_once)

    assert put_blob(tmp_path, b"abc") == ref
    assert identity(path_of(tmp_path, ref)) != before
    assert get_blob(tmp_path, ref) == b"abc"


def test_a_disk_that_fails_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Certainly not written, or written with an unknown fate: the two are told apart."""

    def failing(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode) is folders and len(os.listdir(tmp_path / "blobs" / "ba")) > 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    put_blob(tmp_path, b"something else")
    (tmp_path / "blobs" / "ba").mkdir()
    monkeypatch.setattr(os, "fsync", failing)
    folders = False
    with pytest.raises(StoreUnavailable, match=ABC):
        put_blob(tmp_path, b"abc")
    assert os.listdir(tmp_path / "blobs" / "ba") == []

    folders = True
    with pytest.raises(AppendUnknown, match=ABC):
        put_blob(tmp_path, b"abc")
