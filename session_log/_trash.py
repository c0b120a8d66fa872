"""The trash: where what was deleted stays until it is purged, and how an id that was deleted is known for ever.

    {root}/trash/{session_id}                        a deleted session (a later one of the same id: .2, .3, …)
    {root}/trash/segments/{session_id}/{segment_id}  a folder: a deleted segment, with what accompanied it (also .2, …)
    {root}/trash/purging/{name}                      what is being removed for good
    {root}/trash/gone/{session_id}                   an empty file: this session was purged, its id is not used again

Every folder that is deleted has a ``deleted.json`` that says when, if there was room to write it.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from session_log import _layout
from session_log._atomic import Folder
from session_log._clock import now_ms
from session_log._errors import MissingAncestor, SessionDeleted, SessionLogError

if TYPE_CHECKING:
    from pathlib import Path

TRASH: Final = "trash"
SEGMENTS: Final = "segments"
PURGING: Final = "purging"
GONE: Final = "gone"
NOTE: Final = "deleted.json"
_MAX_NOTE_BYTES: Final = 4096


class Note(msgspec.Struct, frozen=True):
    """When something was deleted, in milliseconds since 1970."""

    ts: int


def refuse_deleted(root: str, session_id: str) -> None:
    """Refuse an id that a deleted session had, unless there is one of that id.

    Raises:
        SessionDeleted: it is in the trash, or was purged.
    """
    trash = f"{root}/{TRASH}"
    if not _exists(trash):
        return
    for place, what in (("", "is in the trash"), (f"{PURGING}/", "was purged"), (f"{GONE}/", "was purged")):
        if _exists(f"{trash}/{place}{session_id}") and not _layout.is_folder(f"{root}/{session_id}"):
            raise SessionDeleted(session_id, what)


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise _layout.unavailable(path, exc) from exc
    return True


def leave_note(folder: str) -> None:
    """Note beside what is about to be moved to the trash when that was; without room for it, nothing is noted."""
    from pathlib import Path

    with contextlib.suppress(SessionLogError), Folder.open(Path(folder)) as opened:
        opened.replace(NOTE, msgspec.json.encode(Note(now_ms())) + b"\n", durable=False)


def deleted_ts(folder: str) -> int:
    """Return when a folder of the trash was deleted; without a note, when it was moved, as the file system says."""
    from pathlib import Path

    try:
        with Folder.open(Path(folder)) as opened:
            note = msgspec.json.decode(opened.read(NOTE, max_bytes=_MAX_NOTE_BYTES), type=Note)
        return note.ts
    except (SessionLogError, msgspec.DecodeError, UnicodeDecodeError):
        with _layout.reported(folder):
            return os.lstat(folder).st_ctime_ns // 1_000_000


@contextlib.contextmanager
def locked(root: "Path", *below: str, durable: bool = True) -> Iterator[Folder]:
    """Keep every other thread and process from deleting, restoring or purging until the block ends."""
    with Folder.make(root, TRASH, *below, durable=durable) as folder, folder.locked():
        yield folder


@contextlib.contextmanager
def settled(root: "Path", *, durable: bool = True) -> Iterator[None]:
    """Keep others from bringing back and purging what is in the trash; deleting goes on. Taken before `locked`."""
    with locked(root, PURGING, durable=durable):
        yield


def numbered(path: str) -> Iterator[str]:
    """Yield ``path``, ``path.2``, ``path.3`` and so on."""
    yield path
    number = 2
    while True:
        yield f"{path}.{number}"
        number += 1


def split_name(name: str) -> tuple[str, int] | None:
    """Return the id and the number of a name in the trash, or None for what is none."""
    id_, dot, number = name.partition(".")
    if _layout.as_id(id_) is None:
        return None
    if not dot:
        return id_, 1
    return (id_, int(number)) if number.isascii() and number.isdecimal() and number == str(int(number)) else None


def segment_places(root: str, session_id: str, segment_id: str) -> Iterator[str]:
    """Yield the folders of the trash that a segment may be in, those that are there, oldest first."""
    for place in numbered(f"{root}/{TRASH}/{SEGMENTS}/{session_id}/{segment_id}"):
        if not _layout.is_folder(place):
            return
        yield place


def confirm_parent(root: "Path", session_id: str, parent: str, child: str) -> None:
    """Take back a child that was just created if its parent was deleted meanwhile.

    Whoever deletes a segment gives the file a second name in the trash first, then looks for children, then takes the
    first name away: so either it finds the new child, or what is looked at here shows that a deletion has begun.

    Raises:
        MissingAncestor: the parent is gone; the child was taken back.
    """
    folder = f"{root}/{session_id}"
    path = f"{folder}/{_layout.segment_name(parent)}"
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        _take_back(folder, child)
        raise _layout.unavailable(path, exc) from exc
    else:
        if not _is_going(str(root), session_id, parent, found):
            return
        with contextlib.suppress(SessionLogError), locked(root, SEGMENTS, durable=False):  # it is decided there
            pass
        if _layout.is_there(path):
            return
    _take_back(folder, child)
    raise MissingAncestor(path, 1, 0, "was deleted while it was forked; nothing was created")


def _take_back(folder: str, child: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(f"{folder}/{_layout.segment_name(child)}")


def _is_going(root: str, session_id: str, segment_id: str, found: os.stat_result) -> bool:
    """Tell whether the second name of a file is one in the trash; backups may give it others."""
    for place in segment_places(root, session_id, segment_id):
        with contextlib.suppress(OSError):
            other = os.lstat(f"{place}/{_layout.segment_name(segment_id)}")
            if (other.st_dev, other.st_ino) == (found.st_dev, found.st_ino):
                return True
    return False
