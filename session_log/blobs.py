"""Blobs: payloads too large to live in a line, each stored once under the SHA-256 of its content.

``{root}/blobs/ab/abcd…`` holds the bytes, nothing else; ``abcd….zlib`` and ``abcd….zst`` hold them compressed. The same
payload put twice is one file; what is read is checked against its name. A crash leaves the whole blob or none.
"""

import contextlib
import io
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

from session_log._atomic import Folder
from session_log._blob_content import (
    MAX_BLOB_BYTES,
    Payload,
    Tally,
    bounded,
    check_payload,
    check_size,
    hash_of,
    hash_of_file,
    payload_chunks,
    sha256_of,
)
from session_log._blob_ref import BlobRef
from session_log._compression import (
    CHUNK_BYTES,
    SUFFIXES,
    Compression,
    Method,
    MissingCodec,
    compressed,
    decompressed,
    suffix_for,
)
from session_log._errors import CorruptBlob, NotFound, StoreUnavailable
from session_log._plain import reported

if TYPE_CHECKING:
    from pathlib import Path  # at run time where a path is made: it costs as much as half of this package


BlobCorrupt = CorruptBlob
"""Another name of :class:`session_log.CorruptBlob`."""


__all__ = [
    "MAX_BLOB_BYTES",
    "BlobCorrupt",
    "BlobRef",
    "BlobSource",
    "MissingCodec",
    "Payload",
    "get_blob",
    "hash_of",
    "hash_of_file",
    "open_blob",
    "put_blob",
    "sha256_of",
]


class BlobSource(Protocol):
    """As much of a store as reading takes."""

    def get_blob(self, ref: BlobRef | str) -> bytes:
        """Return a payload, its hash checked."""


# ── put ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def put_blob(
    root: "Path",
    data: Payload,
    *,
    durable: bool = True,
    how: Compression | None = None,
    media_type: str | None = None,
    kind: str | None = None,
) -> BlobRef:
    """Store ``data`` below ``root`` and return its reference; what is there already is not written again.

    A file is read piece by piece, and memory does not grow with it. When this returns, the blob is on file; with
    ``durable``, it survives a power cut too. A damaged file in its place is replaced, or no longer read.

    Raises:
        InvalidEntry: not bytes, or more than ``MAX_BLOB_BYTES``.
        UnsafePath: a symlink, device or folder stands in the way.
        StoreUnavailable: it cannot be written, or the file to be put not read.
        AppendUnknown: it is written, but may not survive a power cut.
    """
    if isinstance(data, bytes):
        check_payload(data)
        sha256, size_bytes = sha256_of(data), len(data)
        with Folder.make(root, "blobs", sha256[:2], durable=durable) as folder:
            folder.share()  # until its time is new, nobody may take it for garbage
            if not _is_kept(folder, sha256, durable=durable):
                name = sha256 + suffix_for(how, data[: how.sample_bytes] if how is not None else b"")
                _write(folder, name, data, durable=durable)
        return BlobRef(sha256, size_bytes, media_type, kind)
    with payload_chunks(data) as chunks:
        sha256, size_bytes = _put_stream(root, chunks, durable=durable, how=how)
    return BlobRef(sha256, size_bytes, media_type, kind)


def _write(folder: Folder, name: str, data: bytes, *, durable: bool) -> None:
    with (
        reported(folder.path / name),
        folder.temporary(compressed((data,), _method_of(name)), durable=durable) as temporary,
    ):
        folder.move(temporary, folder, name, durable=durable)


def _put_stream(root: "Path", chunks: Iterator[bytes], *, durable: bool, how: Compression | None) -> tuple[str, int]:
    """Write what comes, hash it on the way, and give it its name at the end. Return hash and size."""
    tally = Tally()
    beginning = b"" if how is None else _beginning(chunks, how.sample_bytes)
    suffix = suffix_for(how, beginning)
    with Folder.make(root, "blobs", durable=durable) as above:
        kept = compressed(bounded(tally, itertools.chain((beginning,), chunks)), SUFFIXES[suffix])
        with reported(above.path), above.temporary(kept, durable=durable) as temporary:
            sha256 = tally.sha256
            with Folder.make(root, "blobs", sha256[:2], durable=durable) as folder:
                folder.share()
                if _is_kept(folder, sha256, durable=durable):
                    above.discard(temporary)
                else:
                    above.move(temporary, folder, sha256 + suffix, durable=durable)
    return sha256, tally.size_bytes


def _beginning(chunks: Iterator[bytes], wanted: int) -> bytes:
    """Take the first bytes off the chunks, as many as wanted or more; a pipe may give them in small pieces."""
    taken = bytearray()
    while len(taken) < wanted and (chunk := next(chunks, b"")):
        taken += chunk
    return bytes(taken)


def _is_kept(folder: Folder, sha256: str, *, durable: bool) -> bool:
    """Tell whether there is a sound file of this content, and make its time new; durable: one that is synced now."""
    for name in [sha256 + suffix for suffix in SUFFIXES]:
        try:
            if not folder.holds(name):
                continue
            _examine(folder, name, 0)
        except (NotFound, CorruptBlob, MissingCodec):
            continue
        if not durable or _is_synced(folder, name):
            folder.renew(name)
            return True
    return False


def _is_synced(folder: Folder, name: str) -> bool:
    """Sync a blob that somebody else may have put without. After a failed sync only a new file is safe."""
    try:
        folder.sync(name)
    except StoreUnavailable:
        return False
    return True


# ── get ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def get_blob(root: "Path", ref: BlobRef | str) -> bytes:
    """Return the payload of ``ref``, a reference or the hash in hexadecimal, checked against its hash.

    Raises:
        InvalidEntry: ``ref`` is no SHA-256, or its size is not that of the blob.
        NotFound: there is no such blob.
        CorruptBlob: the content is not what its name says.
        MissingCodec: it is compressed with zstd, and the package for that is not there.
        UnsafePath: a symlink, device or folder stands in its place.
        StoreUnavailable: it cannot be read.
    """
    size = ref.size_bytes if isinstance(ref, BlobRef) else None
    wanted = min(max(size, 0), MAX_BLOB_BYTES) if type(size) is int else MAX_BLOB_BYTES
    with _folder_of(root, ref) as folder:
        _, data, size_bytes = _sound(folder, hash_of(ref), wanted)
    check_size(ref, size_bytes)
    return data


@contextlib.contextmanager
def open_blob(source: "Path | BlobSource", ref: BlobRef | str) -> Iterator[BinaryIO]:
    """Give a payload, of a store or below a root, as a binary file to be read from the beginning to the end.

    The hash is checked before the first byte is handed out, and memory does not grow with the payload. It is checked
    once more on the way: if something changes the file meanwhile, its end raises CorruptBlob. (The second hash costs
    less than reading; checking at the end alone would hand out what nobody vouches for.)

    Raises:
        As :func:`get_blob`.
    """
    opened = getattr(source, "open_blob", None)
    if opened is not None:
        with opened(ref) as file:
            yield file
    elif hasattr(source, "get_blob"):
        yield io.BytesIO(source.get_blob(ref))
    else:
        with _open_below(source, ref) as file:
            yield file


@contextlib.contextmanager
def _open_below(root: "Path", ref: BlobRef | str) -> Iterator[BinaryIO]:
    with _folder_of(root, ref) as folder:
        name, _, size_bytes = _sound(folder, hash_of(ref), 0)
        check_size(ref, size_bytes)
        with folder.opened(name) as fd:
            kept = os.dup(fd)  # what the caller's block raises is not about this file
    try:
        with io.BufferedReader(_Checked(_chunks(kept, name), folder.path / name), CHUNK_BYTES) as file:
            yield file
    finally:
        os.close(kept)


class _Checked(io.RawIOBase):
    """What comes out of a blob's file; its end is an error if it was not what the name says."""

    def __init__(self, chunks: Iterator[bytes], path: "Path") -> None:
        self._chunks, self._path, self._tally = chunks, path, Tally()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = self._next()
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _next(self) -> bytes:
        try:
            with reported(self._path):
                chunk = next(self._chunks, b"")
        except ValueError as exc:
            raise CorruptBlob(str(self._path), self._tally.sha256) from exc
        self._tally.add(chunk)
        if not chunk and self._tally.sha256 != self._path.name[:64]:
            raise CorruptBlob(str(self._path), self._tally.sha256)
        return chunk


@contextlib.contextmanager
def _folder_of(root: "Path", ref: BlobRef | str) -> Iterator[Folder]:
    sha256 = hash_of(ref)
    try:
        folder = Folder.open(root, "blobs", sha256[:2])
    except NotFound:
        raise NotFound(str(root / "blobs" / sha256[:2] / sha256)) from None
    with folder:
        yield folder


def _sound(folder: Folder, sha256: str, wanted: int) -> tuple[str, bytes, int]:
    """Return the name of a file that holds the payload, the first ``wanted`` bytes of it, and its size."""
    problem: CorruptBlob | MissingCodec | None = None
    for suffix in SUFFIXES:
        try:
            return sha256 + suffix, *_examine(folder, sha256 + suffix, wanted)
        except NotFound:
            continue
        except (CorruptBlob, MissingCodec) as exc:  # there may be a sound one beside it
            problem = problem or exc
    raise problem or NotFound(str(folder.path / sha256))


def _examine(folder: Folder, name: str, wanted: int) -> tuple[bytes, int]:
    """Return the first ``wanted`` bytes and the size of what a blob's file holds, all of it checked.

    Raises:
        NotFound, CorruptBlob, MissingCodec, UnsafePath, StoreUnavailable: see :func:`get_blob`.
    """
    tally, parts = Tally(), []
    path = str(folder.path / name)
    with folder.opened(name) as fd:
        try:
            for chunk in _chunks(fd, name):
                if tally.size_bytes < wanted:
                    parts.append(chunk[: wanted - tally.size_bytes])
                tally.add(chunk)
        except ValueError as exc:
            raise CorruptBlob(path, tally.sha256) from exc
    if tally.sha256 != name[:64]:
        raise CorruptBlob(path, tally.sha256)
    return b"".join(parts), tally.size_bytes


def _chunks(fd: int, name: str) -> Iterator[bytes]:
    """Yield what a blob's file holds, up to one byte more than it may."""
    left = MAX_BLOB_BYTES + 1
    with open(fd, "rb", buffering=0, closefd=False) as file:
        for chunk in decompressed(cast("BinaryIO", file), _method_of(name)):
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                return


def _method_of(name: str) -> Method | None:
    return SUFFIXES[name[64:]]
