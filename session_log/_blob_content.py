"""What can be a blob, what names it, and what a reference to it may be. Reads what it is given, writes nothing."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from session_log._blob_ref import BlobRef
from session_log._compression import CHUNK_BYTES, SUFFIXES
from session_log._errors import CorruptBlob, InvalidEntry
from session_log._plain import reported

if TYPE_CHECKING:
    from pathlib import Path  # at run time where a path is made: it costs as much as half of this package

MAX_BLOB_BYTES = 256 * 1024 * 1024
"""What one blob may hold: ``get_blob`` has it in memory as a whole."""


class Readable(Protocol):
    """A file that was opened for reading bytes, or what behaves like one."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most so many bytes, none at the end."""


Payload: TypeAlias = "bytes | os.PathLike[str] | Readable"
"""What can be put: bytes, the path of a file, or a file that was opened for reading bytes, from where it stands."""
_HEX = frozenset("0123456789abcdef")


class Tally:
    """Hash and size of what passes through."""

    def __init__(self) -> None:
        import hashlib

        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Take a chunk in."""
        self._hash.update(chunk)
        self.size_bytes += len(chunk)

    @property
    def sha256(self) -> str:
        """The hash of what came so far, in hexadecimal."""
        return self._hash.hexdigest()


def bounded(tally: Tally, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks, taken into the tally, but for the one that makes them too much."""
    for chunk in chunks:
        tally.add(chunk)
        if tally.size_bytes > MAX_BLOB_BYTES:
            raise InvalidEntry("$", f"the blob has more than {MAX_BLOB_BYTES} bytes (MAX_BLOB_BYTES)")
        yield chunk


@contextlib.contextmanager
def payload_chunks(data: object) -> Iterator[Iterator[bytes]]:
    """Give the content of a payload, ``CHUNK_BYTES`` at most at a time.

    Raises:
        InvalidEntry: it is no payload.
        NotFound, UnsafePath, StoreUnavailable: it cannot be read.
    """
    read = getattr(data, "read", None)
    if isinstance(data, bytes):
        yield iter((check_payload(data),))
    elif isinstance(data, os.PathLike):
        with contextlib.ExitStack() as stack:
            with reported(cast("Path", data)):
                file = stack.enter_context(open(data, "rb", buffering=0))
            yield _chunks_of(file.read, cast("Path", data))
    elif read is not None:
        yield _chunks_of(read, getattr(data, "name", repr(data)))
    else:
        raise InvalidEntry("$", f"a blob is bytes, a path or a binary file, not {type(data).__name__}")


def _chunks_of(read: Callable[[int], Any], where: Any) -> Iterator[bytes]:
    while True:
        with reported(where):
            chunk = read(CHUNK_BYTES)
        if not isinstance(chunk, bytes):
            raise InvalidEntry("$", f"a blob is bytes; {where!s:.200} gives {type(chunk).__name__}: open it with 'rb'")
        if not chunk:
            return
        yield chunk


def read_payload(data: Payload) -> bytes:
    """Return a payload as bytes, read from its file if it is one.

    Raises:
        InvalidEntry: no payload, or more than ``MAX_BLOB_BYTES``.
        NotFound, UnsafePath, StoreUnavailable: the file cannot be read.
    """
    with payload_chunks(data) as chunks:
        return b"".join(bounded(Tally(), chunks))


def check_payload(data: object) -> bytes:
    """Return what can be kept as a blob.

    Raises:
        InvalidEntry: not bytes, or more than ``MAX_BLOB_BYTES``.
    """
    if not isinstance(data, bytes):
        raise InvalidEntry("$", f"a blob is bytes, a path or a binary file, not {type(data).__name__}")
    if len(data) > MAX_BLOB_BYTES:
        raise InvalidEntry("$", f"the blob has {len(data)} bytes, at most {MAX_BLOB_BYTES} (MAX_BLOB_BYTES)")
    return data


def check_content(ref: BlobRef | str, data: bytes, where: str) -> None:
    """Refuse content that is not what its reference says.

    Raises:
        CorruptBlob: it has another hash.
        InvalidEntry: the reference has another size.
    """
    actual = sha256_of(data)
    if actual != hash_of(ref):
        raise CorruptBlob(where, actual)
    check_size(ref, len(data))


def check_size(ref: BlobRef | str, size_bytes: int) -> None:
    """Refuse a reference that gives another size than the payload has."""
    if isinstance(ref, BlobRef) and ref.size_bytes != size_bytes:
        raise InvalidEntry("$.size_bytes", f"is {ref.size_bytes!r}; the blob of this hash has {size_bytes} bytes")


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of a payload in hexadecimal."""
    import hashlib

    return hashlib.sha256(data).hexdigest()


def hash_of(ref: object) -> str:
    """Return the hash of a reference, or of its text in any case.

    Raises:
        InvalidEntry: it is no SHA-256.
    """
    value = ref.sha256 if isinstance(ref, BlobRef) else ref
    if isinstance(value, str) and len(value) == 64 and _HEX.issuperset(value.lower()):
        return value.lower()
    raise InvalidEntry("$.sha256", f"{value!r:.200} is no SHA-256; give its 64 hexadecimal digits")


def hash_of_file(name: str) -> str | None:
    """Return the hash that a file in ``blobs/ab`` is named by, compressed or not; None if it is no blob's."""
    sha256, suffix = name[:64], name[64:]
    return sha256 if len(sha256) == 64 and _HEX.issuperset(sha256) and suffix in SUFFIXES else None
