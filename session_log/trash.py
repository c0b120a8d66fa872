"""The trash: what was deleted, brought back or removed for good.

>>> import tempfile
>>> from session_log import FsStore, create_segment
>>> from session_log.lifecycle import delete_session
>>> from session_log.trash import list_trash, purge, undelete_session
>>> store = FsStore(tempfile.mkdtemp())
>>> session_id, segment_id = create_segment(store)
>>> _ = delete_session(store, session_id)
>>> [found.session_id == session_id for found in list_trash(store)]
[True]
>>> undelete_session(store, session_id)
>>> store.list_segments(session_id) == [segment_id]
True
"""

import contextlib
import errno
import os
from collections.abc import Iterator

import msgspec

from session_log import _layout, _trash
from session_log._clock import now_ms
from session_log._errors import CallerError, NotFound, SegmentExists
from session_log._facts_file import files_of
from session_log._feed_scan import announce_again, announce_return
from session_log._file_store import FsStore
from session_log._ids import parse_id
from session_log._references import OnProgress, refuse_orphan, tell
from session_log._store import Store


class Trashed(msgspec.Struct, frozen=True, kw_only=True):
    """Something in the trash: a session, or, with ``segment_id``, a segment of one.

    ``name`` tells several of the same id apart, ``deleted_ts`` is when it was deleted, ``size_bytes`` what it takes.
    """

    name: str
    session_id: str
    segment_id: str | None
    deleted_ts: int
    size_bytes: int


def list_trash(store: Store) -> tuple[Trashed, ...]:
    """Return what is in the trash, what was deleted last first.

    Raises:
        CallerError: the store has no files.
    """
    files = files_of(store)
    root = f"{files.root}/{_trash.TRASH}"
    found = [_session(root, name) for name in _folders(root) if _trash.split_name(name) is not None]
    segments = f"{root}/{_trash.SEGMENTS}"
    for session_id in _folders(segments):
        if _layout.as_id(session_id) is not None:
            for name in _folders(f"{segments}/{session_id}"):
                found += _segment(files, session_id, name)
    return tuple(sorted(found, key=lambda item: (item.deleted_ts, item.name), reverse=True))


def _session(root: str, name: str) -> Trashed:
    known = _trash.split_name(name)
    assert known is not None  # only such names are looked at
    return _trashed(f"{root}/{name}", name, known[0], None)


def _segment(store: FsStore, session_id: str, name: str) -> Iterator[Trashed]:
    known = _trash.split_name(name)
    folder = f"{store.root}/{_trash.TRASH}/{_trash.SEGMENTS}/{session_id}/{name}"
    if known is None:
        return
    kept = f"{folder}/{_layout.segment_name(known[0])}"
    with contextlib.suppress(FileNotFoundError):  # or of a deletion that was interrupted before it was one
        here = os.lstat(kept)
        with contextlib.suppress(FileNotFoundError):
            there = os.lstat(store.segment_path(session_id, known[0]))
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                return
        yield _trashed(folder, f"{_trash.SEGMENTS}/{session_id}/{name}", session_id, known[0])


def _trashed(folder: str, name: str, session_id: str, segment_id: str | None) -> Trashed:
    return Trashed(
        name=name,
        session_id=session_id,
        segment_id=segment_id,
        deleted_ts=_trash.deleted_ts(folder),
        size_bytes=sum(found.st_size for _, found in files_in(folder)),
    )


def _folders(path: str) -> list[str]:
    if not _layout.is_folder(path):
        return []  # a symlink is not followed
    try:
        with os.scandir(path) as found:
            return sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise _layout.unavailable(path, exc) from exc


def files_in(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the plain files of a folder, by path, with what the system knows of them; what goes meanwhile is left."""
    if not _layout.is_folder(folder):
        return  # a symlink is not followed
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if entry.is_file(follow_symlinks=False)), key=lambda e: e.name)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise _layout.unavailable(folder, exc) from exc
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            yield entry.path, os.lstat(entry.path)


# ── back ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def undelete_session(store: Store, session_id: str, *, name: str | None = None) -> None:
    """Bring a session back from the trash, as it was; of several of this id, the last or the one of this ``name``.

    Its external key may be another session's by now: :func:`session_log.keys.reindex_keys` tells.

    Raises:
        NotFound: it is not in the trash.
        CallerError: there is a session of this id, or the store has no files.
    """
    files, session_id = files_of(store), parse_id(session_id)
    root = f"{files.root}/{_trash.TRASH}"
    if not _layout.is_folder(root):
        raise NotFound(f"{root}/{session_id}", "it is not in the trash")
    durable = files.durability != "process"
    with _trash.settled(files.root, durable=durable), _trash.locked(files.root, durable=durable):
        names = [found for found in _folders(root) if (_trash.split_name(found) or ("",))[0] == session_id]
        names.sort(key=lambda found: (_trash.split_name(found) or ("", 0))[1])
        if not names or name not in (None, *names):
            raise NotFound(f"{root}/{name or session_id}", "it is not in the trash")
        source, folder = f"{root}/{name or names[-1]}", f"{files.root}/{session_id}"
        if not os.path.lexists(folder):
            announce_return(files, session_id, source)
        try:
            os.rename(source, folder)
        except OSError as exc:
            if exc.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise CallerError(f"{folder}: there is a session of this id; delete that first") from None
            raise _layout.unavailable(source, exc) from exc
        with contextlib.suppress(OSError):
            os.unlink(f"{folder}/{_trash.NOTE}")
        if durable:
            _layout.sync_folder(str(files.root))
            _layout.sync_folder(root)
    announce_again(files, session_id)


def undelete_segment(store: Store, session_id: str, segment_id: str) -> None:
    """Bring a segment back from the trash, with what accompanied it; of several of this id, the last.

    Raises:
        NotFound: it is not in the trash, or its session is not there.
        SegmentExists: there is a segment of this id.
        MissingAncestor: what it inherits from is in the trash, too: bring that back first.
        CallerError: the store has no files.
    """
    files, session_id, segment_id = files_of(store), parse_id(session_id), parse_id(segment_id)
    places = list(_trash.segment_places(str(files.root), session_id, segment_id))
    kept = _layout.segment_name(segment_id)
    places = [place for place in places if os.path.lexists(f"{place}/{kept}")]
    if not places:
        raise NotFound(f"{files.root}/{_trash.TRASH}/{_trash.SEGMENTS}/{session_id}/{segment_id}", "not in the trash")
    durable = files.durability != "process"
    with _trash.settled(files.root, durable=durable), _trash.locked(files.root, durable=durable):
        _bring_back(files, session_id, segment_id, places[-1])
    announce_again(files, session_id, segment_id)


def _bring_back(files: FsStore, session_id: str, segment_id: str, place: str) -> None:
    folder, kept = f"{files.root}/{session_id}", _layout.segment_name(segment_id)
    with _layout.folder(folder), _layout.reported(folder):
        if files.exists(session_id, segment_id):
            raise SegmentExists(session_id, segment_id)
        refuse_orphan(files, session_id, f"{place}/{kept}")
        for path, _ in list(files_in(place)):
            name = os.path.basename(path)
            if name not in (kept, _trash.NOTE):
                os.rename(path, f"{folder}/{name}")
        announce_return(files, session_id, place, segment_id)
        os.rename(f"{place}/{kept}", f"{folder}/{kept}")  # the last: what is listed has its trace
        if files.durability != "process":
            _layout.sync_folder(folder)
            _layout.sync_folder(place)
        with contextlib.suppress(OSError):
            os.unlink(f"{place}/{_trash.NOTE}")
            os.rmdir(place)


# ── for good ───────────────────────────────────────────────────────────────────────────────────────────────────────


def purge(
    store: Store, older_than_ms: int | None = None, *, dry_run: bool = False, progress: OnProgress | None = None
) -> tuple[Trashed, ...]:
    """Remove what is in the trash for good, if it was deleted longer ago than this (None: all), and return it.

    Nothing brings it back. With ``dry_run``, only tell. The ids of sessions stay taken. Interrupted, the next purge
    goes on. Payloads that were referred to from there are left to :func:`session_log.collection.collect_blobs`.

    Raises:
        CallerError: the age is none, or the store has no files.
    """
    files = files_of(store)
    if older_than_ms is not None and (type(older_than_ms) is not int or older_than_ms < 0):
        raise CallerError(f"older_than_ms={older_than_ms!r}: is no age in milliseconds")
    root = f"{files.root}/{_trash.TRASH}"
    if dry_run or not _layout.is_folder(root):
        return _purgeable(files, older_than_ms)
    durable = files.durability != "process"
    with _trash.settled(files.root, durable=durable), _layout.reported(root):
        doomed = _purgeable(files, older_than_ms)
        _layout.make_folder(f"{root}/{_trash.GONE}", durable=durable)
        for number, item in enumerate(doomed):
            tell(progress, number, len(doomed), f"purging {item.name}")
            with _trash.locked(files.root, durable=durable):  # a deletion into it has ended, or not begun
                _set_aside(root, item.name, durable=durable)
            _remove_set_aside(root, durable=durable)
        _remove_set_aside(root, durable=durable)  # what an earlier purge was interrupted at
    return doomed


def _purgeable(store: FsStore, older_than_ms: int | None) -> tuple[Trashed, ...]:
    bound = now_ms() - older_than_ms if older_than_ms is not None else None
    return tuple(item for item in list_trash(store) if bound is None or item.deleted_ts < bound)


def _set_aside(root: str, name: str, *, durable: bool) -> None:
    """Move a folder of the trash to where nothing is brought back from; a crash leaves it here or there, whole."""
    for place in _trash.numbered(f"{root}/{_trash.PURGING}/{name.replace('/', '_')}"):
        try:
            os.rename(f"{root}/{name}", place)
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            break
    if durable:  # both, before a file is removed: half of it must not be back in the trash after a power cut
        _layout.sync_folder(f"{root}/{_trash.PURGING}")
        _layout.sync_folder(os.path.dirname(f"{root}/{name}"))
    with contextlib.suppress(OSError):  # of a segment: the folder of its session, if it was the last
        os.rmdir(os.path.dirname(f"{root}/{name}"))


def _remove_set_aside(root: str, *, durable: bool) -> None:
    """Remove the files first, which makes room for the mark that the id is taken, then the folder.

    A session's folder stands for its id until the mark does.
    """
    purging = f"{root}/{_trash.PURGING}"
    for name in _folders(purging):
        place = f"{purging}/{name}"
        _empty(place)
        known = _trash.split_name(name)
        if known is not None:
            mark = f"{root}/{_trash.GONE}/{known[0]}"
            with contextlib.suppress(FileExistsError):
                os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            if durable:
                _layout.sync_folder(f"{root}/{_trash.GONE}")
        os.rmdir(place)


def _empty(place: str) -> None:
    """Remove all that is in a folder; folders in it, which are none of ours, too. No symlink is followed."""
    with os.scandir(place) as found:
        entries = list(found)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            _empty(entry.path)
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)
