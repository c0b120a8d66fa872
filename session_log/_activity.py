"""When a session was used last: by the last lines of its segments, never by file time."""

import contextlib
import os
from typing import Final

import msgspec

from session_log import _layout
from session_log._committed import OpenFile, committed_end, read_span
from session_log._errors import NotFound, StorageError
from session_log._file_store import FsStore

_WINDOW: Final = 1 << 12


class _Ts(msgspec.Struct, frozen=True):
    ts: int


_decoder = msgspec.json.Decoder(_Ts)


def last_activity(store: FsStore, session_id: str) -> int:
    """Return the time of the last entry of a session: that of the last line of its segments. Nothing else is read.

    Raises:
        NotFound: it is not there, or has no segment.
        StorageError: a last line cannot be read.
    """
    found = []
    for segment_id in store.list_segments(session_id):
        with contextlib.suppress(NotFound):
            found.append(_last_ts(str(store.segment_path(session_id, segment_id))))
    if not found:
        raise NotFound(f"{store.root}/{session_id}", "no segment")
    return max(found)


def _last_ts(path: str) -> int:
    with OpenFile(path) as file, _layout.reported(path):
        end = committed_end(file.fd, os.fstat(file.fd).st_size)
        window = _WINDOW
        while True:
            tail = read_span(file.fd, max(0, end - window), end).rstrip()
            start = tail.rfind(b"\n") + 1
            if tail and (start or window >= end):
                break
            if window >= end:
                raise StorageError(f"{path}: has no committed line")
            window *= 8
    try:
        return _decoder.decode(tail[start:]).ts
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise StorageError(f"{path}: the last line is no entry ({exc})") from None
