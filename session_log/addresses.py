"""Addresses: what a person types to name a session, a segment, a line or a turn.

    SESSION  SEG           an id, or at least four hexadecimal digits of its end
    SEG:LINE               a line, counted from 1, as ``grep -n`` and ``sed -n`` count
    SEG@TURN               the end of a turn; 0 is right after the start
    title, key, pod        the title of a session (in any case), its external key, the name of a pod
    path                   a segment file, in a store or anywhere else; ``-`` reads one from standard input
    @last                  where the newest activity is

Where a segment is wanted and a session is named, its active segment is meant.
"""

import contextlib
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from session_log._clock import new_segment_id
from session_log._codec import decode_line
from session_log._entries import SegmentStart
from session_log._errors import (
    CallerError,
    CorruptSegment,
    InvalidEntry,
    InvalidId,
    NotFound,
)
from session_log._facts_file import FACTS_NAME
from session_log._file_store import FsStore
from session_log._frame import split_committed
from session_log._ids import parse_id
from session_log._layout import SEGMENT_SUFFIX, TRACE_SUFFIX, as_id, is_folder, unavailable
from session_log._memory_store import MemoryStore
from session_log._named import named
from session_log._store import Store
from session_log.facts import MIN_SUFFIX_DIGITS, active_segment
from session_log.overviews import recent_sessions

if TYPE_CHECKING:
    from session_log.trash import Trashed

LAST: Final = "@last"
STDIN: Final = "-"
SHOWN_DIGITS: Final = 12
"""How many digits of the end of an id are shown: the random part that no other id made in this millisecond shares."""
MAX_STREAM_BYTES: Final = 1 << 30
"""A segment read from a stream is kept in memory."""
_PLACE: Final = re.compile(r"(?P<base>.+?)(?::(?P<line>\d{1,18})|@(?P<turn>\d{1,18}))\Z", re.DOTALL)
_HEX: Final = re.compile(r"[0-9a-fA-F-]+\Z")


class AmbiguousAddress(CallerError):
    """A text names several things; ``candidates`` says which, newest first."""

    def __init__(self, text: str, candidates: tuple[str, ...]) -> None:
        listing = "".join(f"\n  {candidate}" for candidate in candidates)
        super().__init__(f"{text!r:.200}: names {len(candidates)} things; give more digits, or a whole id:{listing}")
        self.text = text
        self.candidates = candidates


class Address(NamedTuple):
    """What a text names: a session of a store; one of its segments, if it names one; a line or turn of that."""

    store: Store
    session_id: str
    segment_id: str | None = None
    line: int | None = None
    turn: int | None = None

    def segment(self) -> str:
        """Return the segment that is named, or the active one of the session.

        Raises:
            NotFound: the session has no segment.
        """
        if self.segment_id is not None:
            return self.segment_id
        if isinstance(self.store, FsStore):
            with contextlib.suppress(CorruptSegment):  # then nobody knows what is active
                return active_segment(self.store, self.session_id)
        return self.store.list_segments(self.session_id)[0]


def short(found: str, *, full: bool = False) -> str:
    """Return how an id is shown: its last twelve hexadecimal digits, or all of it."""
    return found if full else found.replace("-", "")[-SHOWN_DIGITS:]


def resolve(store: FsStore, text: str, *, stdin: bytes | None = None) -> Address:
    """Return what ``text`` names; ``stdin`` is what ``-`` stands for. Writes nothing.

    Raises:
        NotFound: nothing is called so.
        AmbiguousAddress: several things are; they are listed.
        CallerError: it is no address.
        CorruptSegment: a file named by its path is no segment.
    """
    if not isinstance(text, str) or not text:
        raise CallerError(f"{text!r:.200}: is no address; give an id, a title, a path, or {LAST}")
    if text == STDIN:
        return _stream(stdin or b"", "standard input")
    found = _PLACE.match(text)
    if found is None:
        return _base(store, text)
    if not _HEX.match(found["base"]) and found["base"] not in (LAST, STDIN):
        try:
            return _base(store, text)  # a title may end like a place
        except NotFound:
            pass_on = found["base"]
    else:
        pass_on = found["base"]
    base = _stream(stdin or b"", "standard input") if pass_on == STDIN else _base(store, pass_on)
    line, turn = (int(found[name]) if found[name] is not None else None for name in ("line", "turn"))
    if line == 0:
        raise CallerError(f"{text!r:.200}: lines are counted from 1")
    return base._replace(segment_id=base.segment(), line=line, turn=turn)


def resolve_trashed(store: FsStore, text: str) -> "Trashed":
    """Return what ``text`` names in the trash: an id, at least four digits of its end, or the name it has there.

    Raises:
        NotFound: nothing is called so.
        AmbiguousAddress: several things are; their names tell them apart.
    """
    from session_log.trash import list_trash  # slow to import, for what most commands do not do

    digits = text.replace("-", "").lower()
    found = []
    for trashed in list_trash(store):
        if text == trashed.name:
            return trashed
        whole = (trashed.segment_id or trashed.session_id).replace("-", "")
        if _HEX.match(text) and len(digits) >= MIN_SUFFIX_DIGITS and whole.endswith(digits):
            found.append(trashed)
    if not found:
        raise NotFound(f"{text!r:.200}", "nothing in the trash is called so")
    if len(found) > 1:
        raise AmbiguousAddress(text, tuple(trashed.name for trashed in found))
    return found[0]


def _base(store: FsStore, text: str) -> Address:
    if text == LAST:
        return _last(store)
    if text in (".", "..") or text.endswith(SEGMENT_SUFFIX) or (os.sep in text and os.path.lexists(text)):
        return _path(text)
    try:
        return _whole_id(store, parse_id(text))
    except InvalidId:
        pass_on = text
    targets = sorted(set(named(store, pass_on)), reverse=True)
    if not targets:
        from session_log._unnamed import unnamed  # the trash is looked into by nobody else

        raise unnamed(store, pass_on, pass_on if _HEX.match(pass_on) else None)
    distinct = {(target.session_id, target.segment_id) for target in targets}
    if len(distinct) > 1:
        raise AmbiguousAddress(text, tuple(map(str, targets)))
    target = targets[0]
    return Address(store, target.session_id, target.segment_id or None)


def _last(store: FsStore) -> Address:
    """Return the session and segment with the newest line."""
    found = recent_sessions(store, limit=1)
    if not found:
        raise NotFound(LAST, f"there is no session in {store.root}")
    return Address(store, found[0].session_id, found[0].segment_id or None)


def _path(text: str) -> Address:
    """Return what a path names; symlinks in it are those of whoever typed it."""
    path = os.path.realpath(text)
    if os.path.basename(path) == FACTS_NAME + SEGMENT_SUFFIX:
        path = os.path.dirname(path)
    folder, name = os.path.split(path)
    if name.endswith(TRACE_SUFFIX):
        raise CallerError(f"{path}: is a trace; name its segment, and give --trace to commands that show traces")
    session_id, segment_id = as_id(os.path.basename(folder)), as_id(name.removesuffix(SEGMENT_SUFFIX))
    if session_id is not None and segment_id is not None and name.endswith(SEGMENT_SUFFIX):
        store = FsStore(os.path.dirname(folder))
        if not store.exists(session_id, segment_id):
            from session_log._unnamed import in_trash

            raise NotFound(path, f"no such segment{in_trash(store, segment_id)}")
        return Address(store, session_id, segment_id)
    if (whole := as_id(name)) is not None and is_folder(path):
        return Address(FsStore(folder), whole)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_STREAM_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(path, "no such file") from None
    except IsADirectoryError:
        raise CallerError(f"{path}: is a folder, and no session's; give it as the root") from None
    except OSError as exc:
        raise unavailable(path, exc) from exc
    return _stream(data, path)


def _stream(data: bytes, name: str) -> Address:
    """Return a segment that lies in no store, in a store of its own in memory."""
    if len(data) > MAX_STREAM_BYTES:
        raise CallerError(f"{name}: has more than {MAX_STREAM_BYTES} bytes (MAX_STREAM_BYTES); put it into a store")
    lines = split_committed(data)[0]
    try:
        start = decode_line(lines[0]) if lines else None
    except InvalidEntry as exc:
        raise CorruptSegment(name, 1, 0, str(exc)) from None
    if not isinstance(start, SegmentStart):
        raise CorruptSegment(name, 1, 0, "is no segment: the first line is no segment_start")
    store, segment_id = MemoryStore(), new_segment_id()
    store.adopt(start.session_id, segment_id, lines)
    return Address(store, parse_id(start.session_id), segment_id)


def _whole_id(store: FsStore, found: str) -> Address:
    if is_folder(f"{store.root}/{found}"):
        return Address(store, found)
    session_id = store.lookup_session_of(found)
    if session_id is None:
        from session_log._unnamed import in_trash

        raise NotFound(found, f"neither a session nor a segment has this id{in_trash(store, found)}")
    return Address(store, session_id, found)
