"""A batch in the making: what a writer records inside it goes into one write at its end."""

from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from session_log._batches import Collector, Exit
from session_log._codec import prepare, ts_of
from session_log._entries import UnknownEntry
from session_log._errors import CallerError
from session_log._idem import check_idem
from session_log._keyed import append_keyed

if TYPE_CHECKING:
    from session_log._writer import SegmentWriter


class Batch(Collector):
    """A batch in the making; see :meth:`SegmentWriter.batch`.

    ``position`` is the length in entries behind it, once it is recorded.
    """

    def __init__(self, writer: "SegmentWriter", idem: str | None = None) -> None:
        super().__init__()
        if idem is not None:
            check_idem(idem)
        self._writer = writer
        self._idem = idem
        self.position: int | None = None

    def __enter__(self) -> "SegmentWriter":
        writer = self._writer
        with writer._lock:
            if writer._batches.current() is not None:
                raise CallerError(f"{writer!r}: a batch is open already; batches do not nest")
            self._began = writer._last_ts()
            writer._guarded = True
            writer._batches.begin(self)  # the last step: a signal before it leaves no batch open
        return writer

    def _end(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        writer = self._writer
        with writer._lock:
            writer._batches.end(self)
            writer._guard()
            if kind is None:
                self._settle(writer._last_ts())
                if self._idem is None:
                    self.position = writer._append_many(self.lines, self.entries)
                else:
                    self.position = append_keyed(writer, self.lines, self.entries, self._idem)

    __exit__ = Exit(_end)

    def _settle(self, last_ts: int) -> None:
        """See to it that what was stamped in here is not before what others recorded meanwhile."""
        if last_ts == self._began:
            return
        for at, entry in enumerate(self.entries):
            if self._began <= ts_of(entry) < last_ts and not isinstance(entry, UnknownEntry):
                self.lines[at], self.entries[at] = prepare(msgspec.structs.replace(entry, ts=last_ts))
