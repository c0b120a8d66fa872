"""What a writer has recorded: where it stands in its segment, and the state there.

The state is folded when it is asked for, from what was recorded since; an append only adds to a list.
"""

from collections.abc import Sequence

from session_log._codec import ts_of
from session_log._entries import LogEntry
from session_log._fold import Fold, RolledBack
from session_log._lineage import Restored, last_line_of, restore_span
from session_log._reader import where
from session_log._store import Store


class Recorded:
    """Position and state of a writer. Not safe for threads: its owner keeps them out."""

    def __init__(self, store: Store, restored: Restored) -> None:
        self._store = store
        self._stand_behind(restored)

    def _stand_behind(self, restored: Restored) -> None:
        """Stand at the end of what was restored."""
        head = restored.head
        self._session_id, self._segment_id = head.session_id, head.segment_id
        self._fold: Fold | None = restored.fold
        self._stand((head.entries, head.byte_offset), restored.last_line + b"\n", restored.last_ts)

    def _stand(self, position: tuple[int, int], tail: bytes, last_ts: int) -> None:
        """``tail`` is the end of what is recorded: at least the last line, with its newline."""
        self._position = position  # entries and bytes
        self._tail = tail
        self._fresh: list[LogEntry] = []  # recorded, not folded yet
        self._fresh_from = position[0]
        self._latest = last_ts  # of all but the last entries of _fresh
        self._stamped = 0  # how many of _fresh it is of

    def _last_ts(self) -> int:
        """Return the greatest time of what is recorded."""
        fresh = self._fresh
        if self._stamped < len(fresh):
            self._latest = max(self._latest, *map(ts_of, fresh[self._stamped :]))
            self._stamped = len(fresh)
        return self._latest

    def _advance(self, length: int, data: bytes, entries: Sequence[LogEntry]) -> None:
        """Take into state and position what is on file."""
        count, size = self._position
        self._fresh[count - self._fresh_from :] = entries  # (a slice: an interrupt, and it is done again)
        self._position = length, size + len(data)
        self._tail = data

    def _retreat(self, position: tuple[int, int], tail: bytes) -> None:
        """Go back to where this stood before an append that failed."""
        self._position, self._tail = position, tail
        del self._fresh[position[0] - self._fresh_from :]
        self._stamped = min(self._stamped, len(self._fresh))

    def _folded(self) -> Fold:
        """Return the fold of everything recorded; this object's own."""
        self._last_ts()
        fold, self._fold = self._fold, None  # half folded, if this is interrupted
        try:
            if fold is not None:
                fold.extend(self._fresh)
        except RolledBack:  # left by an interrupted rollback
            fold = None
        if fold is None:
            fold = restore_span(self._store, self._session_id, self._segment_id, self._position[0]).fold
        self._stamped = 0  # before the list: the times of an entry may be looked at twice
        self._fresh = []
        self._fresh_from = self._position[0]
        self._fold = fold
        return fold

    def _where(self) -> str:
        return where(self._store, self._session_id, self._segment_id)

    def _last_line(self) -> bytes:
        return last_line_of(self._tail)
