"""What a writer has recorded: where it stands in its segment, and the state there.

The state is folded when it is asked for, from what was recorded since the last time; an append only adds to a list. A
writer whose state nobody asks for does not keep it: the list is dropped when it gets long, and read again if need be.
"""

from collections.abc import Sequence

from session_log._codec import clock_time
from session_log._entries import LogEntry, TurnEnd
from session_log._fold import Fold
from session_log._lineage import Restored, last_line_of, restore_span
from session_log._reader import where
from session_log._rollback import RolledBack
from session_log._store import Store

MAX_FRESH = 4096
"""The most entries a writer keeps that were not folded yet; a look at the state then reads the segment again."""


class Recorded:
    """Position and state of a writer. Not safe for threads: its owner keeps them out."""

    def __init__(self, store: Store, restored: Restored) -> None:
        self._store = store
        self._stand_behind(restored)

    def _stand_behind(self, restored: Restored) -> None:
        """Stand at the end of what was restored."""
        head, fold = restored.head, restored.fold
        self._session_id, self._segment_id = head.session_id, head.segment_id
        self._stand((head.entries, head.byte_offset), restored.last_line + b"\n", restored.last_ts, fold)

    def _stand(self, position: tuple[int, int], tail: bytes, last_ts: int, fold: Fold) -> None:
        """``tail`` is the end of what is recorded: at least the last line, with its newline."""
        self._position = position  # entries and bytes
        self._tail = tail
        self._fold: Fold | None = fold  # None: read it again
        self._fresh: list[LogEntry] = []  # recorded, not folded yet
        self._fresh_from = position[0]
        self._latest = last_ts
        self._turns: int | None = fold.turn_count  # None: see the fold
        self._noted = 0  # how many of _fresh the two are of, too

    def _note(self) -> None:
        """Bring the latest time and the number of turns up to date."""
        fresh = self._fresh
        latest, turns = self._latest, self._turns
        for entry in fresh[self._noted :]:
            latest = max(latest, clock_time(entry))
            if type(entry) is TurnEnd and turns is not None:
                turns = entry.turn_count
        self._latest, self._turns, self._noted = latest, turns, len(fresh)
        if len(fresh) > MAX_FRESH:
            self._forget()
            self._turns = turns

    def _last_ts(self) -> int:
        """Return the greatest time of what is recorded."""
        self._note()
        return self._latest

    def _turn_count(self) -> int:
        """Return the number of turns recorded."""
        self._note()
        return self._turns if self._turns is not None else self._folded().turn_count

    def _forget(self) -> None:
        """Drop the state: it is not that of all entries in order any more, or too much to keep."""
        self._noted = 0  # before the list: a time may be looked at twice
        self._fold = self._turns = None
        self._fresh = []
        self._fresh_from = self._position[0]

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
        self._noted = min(self._noted, len(self._fresh))

    def _folded(self) -> Fold:
        """Return the fold of everything recorded; this object's own."""
        self._note()
        fold, self._fold = self._fold, None  # half folded, if this is interrupted
        try:
            if fold is not None:
                fold.extend(self._fresh)
        except RolledBack:  # left by an interrupted rollback
            fold = None
        if fold is None:
            fold = restore_span(self._store, self._session_id, self._segment_id, self._position[0]).fold
        self._forget()
        self._turns = fold.turn_count
        self._fold = fold
        return fold

    def _where(self) -> str:
        return where(self._store, self._session_id, self._segment_id)

    def _last_line(self) -> bytes:
        return last_line_of(self._tail)
