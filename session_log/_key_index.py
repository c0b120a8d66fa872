"""The index of external keys, ``{root}/keys/{0-f}.jsonl``: a line for each key, made again when it does not hold."""

import contextlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from session_log import _layout
from session_log._atomic import Folder
from session_log._clock import now_ms
from session_log._errors import NotFound
from session_log._facts import line_of
from session_log._facts_file import every_facts
from session_log._file_store import FsStore
from session_log._frame import committed_length
from session_log._segment_file import SegmentFile

_FOLDER: Final = "keys"
_DIGITS: Final = "0123456789abcdef"


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the index; without a session, the key was taken away."""

    kind: str
    ts: int
    key: str
    session_id: str | None


class Broken(Exception):
    """The index is not there, or says what the facts do not."""


_decoder = msgspec.json.Decoder(_Entry)


def _file_of(key: str) -> str:
    import hashlib

    return hashlib.sha256(key.encode()).hexdigest()[0] + _layout.SEGMENT_SUFFIX


def read_index(store: FsStore, key: str) -> bytes:
    """Return the lines of the index file that a key belongs to."""
    try:
        with Folder.open(store.root, _FOLDER) as folder:
            return folder.read(_file_of(key))
    except NotFound:
        raise Broken from None


def glance(data: bytes, key: str) -> str | None:
    """Return the session of the last entry of a key, of which only those lines are decoded that have its text."""
    needle = msgspec.json.encode(key)
    end = data.rfind(b"\n") + 1
    while (at := data.rfind(needle, 0, end)) >= 0:
        start = data.rfind(b"\n", 0, at) + 1
        try:
            entry = _decoder.decode(data[start : data.index(b"\n", at)])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Broken from None
        if entry.key == key:
            return entry.session_id
        end = start
    return None


def search(data: bytes, key: str) -> str | None:
    """Return the session of the last entry of a key, after decoding every line."""
    try:
        entries = _decoder.decode_lines(data[: committed_length(data, whole=True)])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Broken from None
    return next((entry.session_id for entry in reversed(entries) if entry.key == key), None)


def append(store: FsStore, key: str, session_id: str | None) -> None:
    """Append an entry; the lock of the index is held."""
    data = line_of("key", now_ms(), {"key": key, "session_id": session_id})
    file = SegmentFile(f"{store.root}/{_FOLDER}/{_file_of(key)}", durability=store.durability, create=True)
    try:
        file.append(data, 1, None, True)
    finally:
        file.close()


@contextlib.contextmanager
def locked(store: FsStore) -> Iterator[Folder]:
    """Keep every other thread and process from changing the index."""
    try:
        folder = Folder.open(store.root, _FOLDER)
    except NotFound:
        folder = Folder.make(store.root, _FOLDER, durable=store.durability != "process")
    with folder, folder.locked():
        yield folder


class Gathered(NamedTuple):
    """Every key with its sessions, newest first, and the sessions whose facts are damaged."""

    owners: dict[str, list[str]]
    damaged: list[str]


def gather(store: FsStore) -> Gathered:
    """Return every key with its sessions, newest first, from the sessions' facts."""
    owners: dict[str, list[str]] = {}
    damaged = []
    for facts in every_facts(store):
        if facts.external_key is not None:
            owners.setdefault(facts.external_key, []).append(facts.session_id)
        if facts.damage:
            damaged.append(facts.session_id)
    return Gathered(owners, damaged)


def rebuild(store: FsStore, folder: Folder) -> Gathered:
    """Replace every file of the index by what the facts say; the lock is held. Of several sessions, one stays."""
    found = gather(store)
    files: dict[str, list[bytes]] = {digit + _layout.SEGMENT_SUFFIX: [] for digit in _DIGITS}
    for key, session_ids in found.owners.items():
        if len(session_ids) > 1:
            with contextlib.suppress(Broken):
                session_ids.sort(key=glance(read_index(store, key), key).__eq__, reverse=True)
        files[_file_of(key)].append(line_of("key", now_ms(), {"key": key, "session_id": session_ids[0]}))
    for name, lines in files.items():
        folder.replace(name, b"".join(lines), durable=store.durability != "process")
    return found
