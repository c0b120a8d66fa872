"""Blobs: payloads too large to live in a line, each stored once under the SHA-256 of its content.

``{root}/blobs/ab/abcd…`` holds the bytes, nothing else. The same payload put twice is one file; what is read is checked
against its name. A crash leaves the whole blob or none.
"""

from typing import TYPE_CHECKING

import msgspec

from session_log._atomic import Folder
from session_log._errors import CorruptBlob, InvalidEntry, NotFound, StoreUnavailable

if TYPE_CHECKING:
    from pathlib import Path  # at run time where a path is made: it costs as much as half of this package


MAX_BLOB_BYTES = 256 * 1024 * 1024
"""What one blob may hold: it is read and checked in memory, as a whole."""
_HEX = frozenset("0123456789abcdef")


class BlobRef(msgspec.Struct, frozen=True, gc=False):
    """What an entry keeps in place of a payload: the hash of its content, and its size."""

    sha256: str
    size_bytes: int


def put_blob(root: "Path", data: bytes, *, durable: bool = True) -> BlobRef:
    """Store ``data`` below ``root`` and return its reference; what is there already is not written again.

    When this returns, the blob is on file; with ``durable``, it survives a power cut too. A damaged file in its place
    is replaced.

    Raises:
        InvalidEntry: not bytes, or more than ``MAX_BLOB_BYTES``.
        UnsafePath: a symlink, device or folder stands in the way.
        StoreUnavailable: it cannot be written.
        AppendUnknown: it is written, but may not survive a power cut.
    """
    check_payload(data)
    sha256 = sha256_of(data)
    with Folder.make(root, "blobs", sha256[:2], durable=durable) as folder:
        folder.share()  # until its time is new, nobody may take it for garbage
        if not _is_whole(folder, sha256, len(data)) or (durable and not _is_synced(folder, sha256)):
            folder.replace(sha256, data, durable=durable)
        else:
            folder.renew(sha256)
    return BlobRef(sha256, len(data))


def _is_whole(folder: Folder, sha256: str, size_bytes: int) -> bool:
    try:
        found = folder.read(sha256, max_bytes=size_bytes)
    except NotFound:
        return False
    return sha256_of(found) == sha256


def _is_synced(folder: Folder, sha256: str) -> bool:
    """Sync a blob that somebody else may have put without. After a failed sync only a new file is safe."""
    try:
        folder.sync(sha256)
    except StoreUnavailable:
        return False
    return True


def get_blob(root: "Path", ref: BlobRef | str) -> bytes:
    """Return the payload of ``ref``, a reference or the hash in hexadecimal, checked against its hash.

    Raises:
        InvalidEntry: ``ref`` is no SHA-256, or its size is not that of the blob.
        NotFound: there is no such blob.
        CorruptBlob: the content is not what its name says.
        UnsafePath: a symlink, device or folder stands in its place.
        StoreUnavailable: it cannot be read.
    """
    sha256 = hash_of(ref)
    path = root / "blobs" / sha256[:2] / sha256
    try:
        with Folder.open(root, "blobs", sha256[:2]) as folder:
            data = folder.read(sha256, max_bytes=MAX_BLOB_BYTES)
    except NotFound:
        raise NotFound(str(path)) from None
    check_content(ref, data, str(path))
    return data


def check_payload(data: object) -> bytes:
    """Return what can be kept as a blob.

    Raises:
        InvalidEntry: not bytes, or more than ``MAX_BLOB_BYTES``.
    """
    if not isinstance(data, bytes):
        raise InvalidEntry("$", f"a blob is bytes, not {type(data).__name__}")
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
    if isinstance(ref, BlobRef) and ref.size_bytes != len(data):
        raise InvalidEntry("$.size_bytes", f"is {ref.size_bytes!r}; the blob of this hash has {len(data)} bytes")


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
