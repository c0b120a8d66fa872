"""The laws of blobs that come from files, are kept compressed, or are read as files."""

import contextlib
import hashlib
import io
import multiprocessing
import os
import random
import sys
import tempfile
import tracemalloc
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import session_log._blob_content
from session_log import CallerError, FsStore, InvalidEntry, MemoryStore, NotFound, StoreUnavailable
from session_log._compression import CHUNK_BYTES, Compression
from session_log.blobs import (
    MAX_BLOB_BYTES,
    BlobCorrupt,
    BlobRef,
    Payload,
    get_blob,
    hash_of_file,
    open_blob,
    put_blob,
)

HAS_ZSTD = find_spec("zstandard") is not None or sys.version_info >= (3, 14)
METHODS = ["zlib", pytest.param("zstd", marks=pytest.mark.skipif(not HAS_ZSTD, reason="needs zstandard"))]
SUFFIX = {"zlib": ".zlib", "zstd": ".zst"}
TEXT = b"".join(b"line %d of a build log\n" % at for at in range(2_000))
NOISE = random.Random(1).randbytes(50_000)
LARGE_BYTES = 24 * CHUNK_BYTES


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "blobs").rglob("*") if path.is_file())


def one_file(root: Path) -> Path:
    (path,) = (path for path in (root / "blobs").rglob("*") if path.is_file())
    return path


class Dribble(io.RawIOBase):
    """A file that gives a few bytes at a time, as a pipe does, and then perhaps fails."""

    def __init__(self, data: bytes, failure: BaseException | None = None) -> None:
        self._data, self._failure = io.BytesIO(data), failure

    def read(self, size: int = -1) -> bytes:
        chunk = self._data.read(min(size, 7_001))
        if not chunk and self._failure is not None:
            raise self._failure
        return chunk


@given(st.binary(max_size=300), st.sampled_from([1, 40, CHUNK_BYTES // 300 + 1]), st.sampled_from([None, "zlib"]))
@example(b"", 1, "zlib")
@example(b"x" * (CHUNK_BYTES // 8), 8, "zlib")
def test_where_a_payload_comes_from_makes_no_difference(piece: bytes, times: int, method: Any) -> None:
    """Bytes, a path, a file or a pipe: the same reference, the same one file, the same content, however it is kept."""
    data = piece * times
    how = Compression(method, 100) if method else None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source")
        source.write_bytes(data)
        payloads: list[Payload] = [data, source, io.BytesIO(data), Dribble(data)]
        for number, payload in enumerate(payloads):
            root = Path(folder, str(number))
            ref = put_blob(root, payload, durable=False, how=how)

            assert ref == BlobRef(hashlib.sha256(data).hexdigest(), len(data))
            assert get_blob(root, ref) == data
            with open_blob(root, ref) as file:
                assert file.read() == data
            name = one_file(root).name
            assert name[:64] == ref.sha256 and hash_of_file(name) == ref.sha256


def test_a_file_is_read_from_where_it_stands_and_stays_open(tmp_path: Path) -> None:
    """What was read of it before is not part of the payload; closing is the caller's."""
    file = io.BytesIO(b"headpayload")
    file.seek(4)

    assert get_blob(tmp_path, put_blob(tmp_path, file)) == b"payload"
    assert not file.closed


@pytest.mark.parametrize("how", [None, Compression("zlib", 0)], ids=repr)
def test_memory_does_not_grow_with_a_file(tmp_path: Path, how: Compression | None) -> None:
    """A large file is put, put again and read in a few pieces' memory."""
    source = tmp_path / "source"
    with source.open("wb") as file:
        for at in range(LARGE_BYTES // CHUNK_BYTES):
            file.write((b"%d " % at) * (CHUNK_BYTES // len(b"%d " % at)))
    tracemalloc.start()
    try:
        ref = put_blob(tmp_path, source, durable=False, how=how)
        put_blob(tmp_path, source, durable=False, how=how)
        with open_blob(tmp_path, ref) as opened:
            digest = hashlib.sha256()
            while chunk := opened.read(CHUNK_BYTES):
                digest.update(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert digest.hexdigest() == ref.sha256 and ref.size_bytes == source.stat().st_size
    assert peak < LARGE_BYTES / 3


@pytest.mark.parametrize("method", METHODS)
def test_the_suffix_says_how_a_blob_is_kept(tmp_path: Path, method: Any) -> None:
    """The name is the hash of the content; what is short, or does not get smaller, stays as it is."""
    with FsStore(tmp_path, compress_blobs=method, compress_above=1_000) as store:
        long = store.put_blob(TEXT, media_type="text/plain", kind="log")
        for plain in (TEXT[:1_000], NOISE, b""):
            assert store.get_blob(store.put_blob(plain)) == plain

    kept = tmp_path / "blobs" / long.sha256[:2] / (long.sha256 + SUFFIX[method])
    assert kept.stat().st_size < len(TEXT) / 4
    assert long == BlobRef(hashlib.sha256(TEXT).hexdigest(), len(TEXT), "text/plain", "log")
    assert sum("." in name for name in files(tmp_path)) == 1
    with FsStore(tmp_path) as other:  # a reader needs nothing but the name
        assert other.get_blob(long) == other.get_blob(long.sha256) == TEXT
        with other.open_blob(long) as file:
            assert file.read(10) == TEXT[:10]


def test_a_pipe_is_compressed_as_a_file_is(tmp_path: Path) -> None:
    """Whether it is long enough, and worth it, is not seen in the first piece that comes; also above a MiB."""
    for number, data in enumerate((TEXT, bytes(2 * CHUNK_BYTES))):
        for source in (data, Dribble(data)):
            root = tmp_path / f"{number} {type(source).__name__}"
            ref = put_blob(root, source, how=Compression("zlib", len(data) - 1))
            plain = put_blob(root, source if source is data else Dribble(data[1:]), how=Compression("zlib", len(data)))

            assert (root / "blobs" / ref.sha256[:2] / (ref.sha256 + ".zlib")).exists()
            assert get_blob(root, ref) == data
            assert plain == ref or (root / "blobs" / plain.sha256[:2] / plain.sha256).exists()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_there_in_one_form_is_not_written_in_another(tmp_path: Path, method: Any) -> None:
    """A payload is kept once, whoever put it first in whichever form."""
    how = Compression(method, 0)
    put_blob(tmp_path / "a", TEXT, how=how)
    put_blob(tmp_path / "b", TEXT)
    for wrapped in (bytes, io.BytesIO):
        put_blob(tmp_path / "a", wrapped(TEXT))
        put_blob(tmp_path / "b", wrapped(TEXT), how=how)

    assert [Path(name).suffix for name in files(tmp_path / "a")] == [SUFFIX[method]]
    assert [Path(name).suffix for name in files(tmp_path / "b")] == [""]


@pytest.mark.parametrize("method", METHODS)
def test_no_damage_of_a_compressed_blob_gives_other_bytes(tmp_path: Path, method: Any) -> None:
    """Whatever bit flips and wherever the file is cut: BlobCorrupt, or what was put; the next put mends it."""
    ref = put_blob(tmp_path, TEXT[:900], how=Compression(method, 0), durable=False)
    kept = one_file(tmp_path)
    sound = kept.read_bytes()
    damaged = [sound[:cut] for cut in range(len(sound))]
    for bit in range(len(sound) * 8):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    refused = 0
    for data in damaged:
        kept.write_bytes(data)
        try:
            assert get_blob(tmp_path, ref) == TEXT[:900]
        except BlobCorrupt as exc:
            refused += 1
            assert exc.where == str(kept)

    assert refused > len(damaged) * 0.9
    kept.write_bytes(sound[:-5])
    put_blob(tmp_path, TEXT[:900])
    assert get_blob(tmp_path, ref) == TEXT[:900]


def test_a_sound_file_is_found_beside_a_damaged_one(tmp_path: Path) -> None:
    """A damaged plain file does not hide the compressed one."""
    ref = put_blob(tmp_path, TEXT, how=Compression("zlib", 0))
    (tmp_path / "blobs" / ref.sha256[:2] / ref.sha256).write_bytes(b"edited")

    assert get_blob(tmp_path, ref) == TEXT
    with open_blob(tmp_path, ref) as file:
        assert file.read() == TEXT


def test_a_bomb_does_not_go_off(tmp_path: Path) -> None:
    """A small file that unpacks to more than a blob may hold is given up in time, in a few pieces' memory."""
    ref = put_blob(tmp_path, TEXT, how=Compression("zlib", 0))
    pack = zlib.compressobj(9)
    zeros = bytes(CHUNK_BYTES)
    with one_file(tmp_path).open("wb") as file:
        for _ in range(MAX_BLOB_BYTES // CHUNK_BYTES + 64):
            file.write(pack.compress(zeros))
        file.write(pack.flush())
    tracemalloc.start()
    try:
        with pytest.raises(BlobCorrupt) as caught:
            get_blob(tmp_path, ref)
        with pytest.raises(BlobCorrupt), open_blob(tmp_path, ref.sha256):
            raise AssertionError("nothing may be handed out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 8 * CHUNK_BYTES
    assert caught.value.actual == hashlib.sha256(bytes(MAX_BLOB_BYTES + 1)).hexdigest()  # no more was unpacked


def test_zstd_says_which_package_it_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked to write, or to read what others wrote: the error names the extra; a payload is put in another form."""
    ref = put_blob(tmp_path, TEXT)
    one_file(tmp_path).rename(one_file(tmp_path).with_suffix(".zst"))
    for name in ("zstandard", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(CallerError, match=r"session-log\[zstd\]"):
        FsStore(tmp_path, compress_blobs="zstd")
    with pytest.raises(CallerError, match=r"session-log\[zstd\]"):
        get_blob(tmp_path, ref)
    put_blob(tmp_path, TEXT)
    assert get_blob(tmp_path, ref) == TEXT


@pytest.mark.parametrize("options", [{"compress_blobs": "gzip"}, {"compress_blobs": "zlib", "compress_above": -1}])
def test_an_unknown_way_to_compress_is_refused(tmp_path: Path, options: Any) -> None:
    with pytest.raises(CallerError, match="compress"):
        FsStore(tmp_path, **options)


@pytest.mark.parametrize("source", [io.StringIO("text"), "a/path", None, 7], ids=repr)
@pytest.mark.parametrize("make", [FsStore, lambda _: MemoryStore()], ids=["files", "memory"])
def test_what_is_no_payload_is_refused_and_nothing_is_left(tmp_path: Path, make: Any, source: Any) -> None:
    """Text has no bytes yet, and a str is text, not a path."""
    with pytest.raises(InvalidEntry, match="a blob is bytes"):
        make(tmp_path / "root").put_blob(source)

    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("failure", "expected"),
    [(OSError(5, "Input/output error"), StoreUnavailable), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_source_that_fails_leaves_nothing(tmp_path: Path, failure: Any, expected: Any) -> None:
    """Nor does one that is not there, or has too much."""
    with pytest.raises(expected):
        put_blob(tmp_path, Dribble(NOISE, failure))
    with pytest.raises(NotFound, match="nowhere"):
        put_blob(tmp_path, tmp_path / "nowhere")

    assert files(tmp_path) == []


def test_more_than_a_blob_may_hold_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is, or grows, too large is refused, and its part that was written does not stay."""
    monkeypatch.setattr(session_log._blob_content, "MAX_BLOB_BYTES", 20_000)

    assert put_blob(tmp_path, Dribble(NOISE[:20_000])).size_bytes == 20_000
    for put in (MemoryStore().put_blob, FsStore(tmp_path).put_blob):
        with pytest.raises(InvalidEntry, match="MAX_BLOB_BYTES"):
            put(Dribble(NOISE[:20_001]))
    assert len(files(tmp_path)) == 1


def test_nothing_of_a_damaged_blob_is_handed_out(tmp_path: Path) -> None:
    """open_blob looks at all of it before it gives the file."""
    ref = put_blob(tmp_path, NOISE)
    one_file(tmp_path).write_bytes(NOISE[:-1] + b"?")

    with pytest.raises(BlobCorrupt), open_blob(tmp_path, ref):
        raise AssertionError("nothing may be handed out")
    put_blob(tmp_path, NOISE)
    with pytest.raises(InvalidEntry, match="size_bytes"), open_blob(FsStore(tmp_path), BlobRef(ref.sha256, 1)):
        raise AssertionError("nothing may be handed out")


def test_a_blob_that_is_changed_while_it_is_read_is_an_error_at_its_end(tmp_path: Path) -> None:
    """Whoever reads to the end knows what it was."""
    data = NOISE * 60  # more than is read ahead
    ref = put_blob(tmp_path, data)
    with open_blob(tmp_path, ref) as file:
        assert file.read(100) == data[:100]
        with one_file(tmp_path).open("r+b") as other:
            other.seek(-1, os.SEEK_END)
            other.write(bytes([data[-1] ^ 1]))
        with pytest.raises(BlobCorrupt):
            file.read()


def test_what_the_block_raises_is_its_own(tmp_path: Path) -> None:
    """A full disk of whoever copies a blob is not the blob's, and no descriptor stays open."""
    ref = put_blob(tmp_path, NOISE)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(3):
        with pytest.raises(OSError, match="full"), open_blob(tmp_path, ref):
            raise OSError(28, "full")

    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


def test_a_store_without_files_opens_its_blobs_as_well() -> None:
    """Whatever has get_blob can be read as a file."""
    store = MemoryStore()
    ref = store.put_blob(io.BytesIO(b"abc"), kind="k")

    assert ref.kind == "k"
    with open_blob(store, ref) as file:
        assert file.read() == b"abc"


def test_a_reference_says_only_what_is_known() -> None:
    """The golden lines of references: media type and kind are left out where nobody gave them."""
    encode = msgspec.json.encode
    assert encode(BlobRef("ab", 3)) == b'{"sha256":"ab","size_bytes":3}'
    full = b'{"sha256":"ab","size_bytes":3,"media_type":"image/png","kind":"shot"}'
    assert encode(BlobRef("ab", 3, "image/png", "shot")) == full
    assert msgspec.json.decode(full[:-1] + b',"later":1}', type=BlobRef) == BlobRef("ab", 3, "image/png", "shot")


def _put_many(root: str, seed: int) -> None:
    """Put the same payloads as everybody, in an order and a form of one's own."""
    order = random.Random(seed)
    payloads = [b"%d" % at * 20_000 for at in range(8)]
    with FsStore(root, durability="process", compress_blobs="zlib" if seed % 2 else None) as store:
        for _ in range(10):
            order.shuffle(payloads)
            for data in payloads:
                ref = store.put_blob(data if order.random() < 0.5 else io.BytesIO(data))
                assert store.get_blob(ref) == data
                with contextlib.closing(Dribble(data)) as again:
                    assert store.put_blob(again) == ref


def test_processes_that_put_the_same_payloads_do_not_disturb_each_other(tmp_path: Path) -> None:
    """All of them succeed, each payload is there in the forms that were asked for, and nothing else stays."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_put_many, args=(str(tmp_path), seed)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 4
    names = files(tmp_path)
    assert all(hash_of_file(name) for name in names) and len({name[:64] for name in names}) == 8
